"""The framework's logic as Ibis functions: thresholds, states, transitions, intervals and billing.

All code that determines a state belongs here. Nothing in this package imports Dagster, DuckDB or
table declarations, or reads files.
"""
