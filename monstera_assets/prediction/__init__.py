"""Prediction: what is expected, of whom and of what, and how well that was foreseen before.

Belongs here: features, models, expectations and their evaluation, as pure functions. Does not belong
here: tables and checks (gold), states (lifecycle), anything of Dagster.
"""
