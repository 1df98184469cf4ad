"""Operate the graph: partitions, runs, Dagster's storage, status, exports, erasure and alerts.

This package decides when and how assets are materialized. Other packages define their contents.
"""
