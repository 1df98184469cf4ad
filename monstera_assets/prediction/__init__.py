"""Churn models, recommendations and anomaly detection, with backtesting.

Models and their evaluation are pure functions that do not depend on Dagster. Tables and checks belong
in `gold`, and lifecycle state rules belong in `lifecycle`.
"""
