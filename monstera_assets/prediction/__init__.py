"""Churn models, recommendations and anomaly detection, with back-testing.

The package contains models and their evaluation as pure functions that do not depend on Dagster. Tables
and checks belong in `gold`, and the rules of the lifecycle states in `lifecycle`.
"""
