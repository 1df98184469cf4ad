"""Churn models, recommendations and anomaly detection, with back-testing.

Belongs here: models and their evaluation, as pure functions. Does not belong here: tables and checks
(gold), states (lifecycle), anything of Dagster.
"""
