"""The framework's logic as Ibis functions: thresholds, states, transitions, intervals, billing.

Belongs here: everything that decides a state. Does not belong here: Dagster, DuckDB, table declarations
and files; nothing in this package imports them.
"""
