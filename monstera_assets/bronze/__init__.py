"""Bronze layer: typed and validated source rows, with every row accounted for.

Each table has a module that contains the table's declaration and acceptance rules. `load_entities`
loads the inputs that are loaded in full, and `load_events` loads events by day. This package does not
read files (see `source`) or combine activity rows.
"""

OWNERS = ("team:data-platform",)
