"""Operate the graph: partitions, runs, Dagster's storage, status, exports, erasure, alerts.

In this package: when and how assets are materialized. Elsewhere: what they contain.
"""
