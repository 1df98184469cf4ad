"""Bronze: the source as it was delivered, typed, validated, and accounted for row by row.

Belongs here: one module a table with its declaration and the rules by which a row is accepted, and
the two loads that fill them (`load_entities` for what is loaded whole, `load_events` by day). Does
not belong here: reading files (source) and anything that is computed from several rows of activity.
"""

OWNERS = ("team:data-platform",)
