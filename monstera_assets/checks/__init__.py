"""Asset checks: what must hold for a published table.

Belongs here: the contract of every declared table (types, nulls, key, allowed values, references) and
the code that turns rules into Dagster checks. Does not belong here: the rules of a table, which are in
the table's module.
"""
