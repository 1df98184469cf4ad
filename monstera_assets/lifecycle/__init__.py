"""Implement the framework with Ibis: thresholds, states, transitions, intervals and billing.

All code that determines states belongs in this package. The package does not import Dagster, DuckDB
or table declarations, and it does not read files.
"""
