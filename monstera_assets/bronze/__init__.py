"""Bronze: the source as delivered, typed and validated, with every row accounted for.

Belongs here: one module per table with its declaration and acceptance rules, and the
two loads (`load_entities` for inputs that are loaded in full, `load_events` by day). Does not
belong here: reading files (source), and anything computed from several activity rows.
"""

OWNERS = ("team:data-platform",)
