"""The logic of the framework as Ibis functions: thresholds, states, transitions, intervals and billing.

Everything that decides a state belongs here. Nothing in this package imports Dagster, DuckDB or table
declarations, or reads files.
"""
