"""Verify each table's rules with asset checks.

This package contains the contract for every declared table (types, nulls, key, allowed values,
references) and the code that turns rules into Dagster checks. A table's rules are defined in the
table's module.
"""
