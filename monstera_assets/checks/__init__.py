"""Asset checks, which verify what must hold for each table.

This package has the contract of every declared table (types, nulls, key, allowed values, references)
and the code that turns rules into Dagster checks. The rules of a table are in the module of the table.
"""
