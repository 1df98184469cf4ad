"""Churn models, recommendations and anomaly detection, with back-testing.

Contains models and their evaluation as pure functions, without Dagster. Tables and checks belong in
`gold`, state rules in `lifecycle`.
"""
