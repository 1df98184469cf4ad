"""Asset checks: what must hold of a published table.

Belongs here: the contract that every declared table has (types, nulls, key, allowed values,
references), the machinery that turns rules into Dagster checks, and the rules that one table cannot
state alone. A rule that is one table's own stands in that table's module.
"""
