"""Asset checks, which verify the rules of each table.

This package contains the contract of every declared table (types, nulls, key, allowed values,
references) and the code that turns rules into Dagster checks. The rules of a table are in the
table's module.
"""
