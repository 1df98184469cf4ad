"""The framework's logic as Ibis functions: thresholds, states, moves, intervals, billing.

Belongs here: whatever decides a state. Does not belong here: Dagster, DuckDB, tables' declarations,
files; nothing in this package imports them.
"""
