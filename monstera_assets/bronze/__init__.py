"""Bronze: the source as delivered, typed and validated, with every row accounted for.

This package contains one module per table, with its declaration and acceptance rules, and the two
loads: `load_entities` for inputs that are loaded in full, and `load_events` for events by day. It
does not read files (see `source`) or compute anything from several activity rows.
"""

OWNERS = ("team:data-platform",)
