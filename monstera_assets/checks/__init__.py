"""Asset checks that verify each table's rules.

This package contains the contract of every declared table (types, nulls, key, allowed values,
references) and the code that turns rules into Dagster checks. A table's rules are defined in the
table's module.
"""
