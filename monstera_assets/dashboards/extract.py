"""The tables and columns that pages read.

An engine other than DuckDB publishes this extract into a DuckDB file, from which the site is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module

from monstera_assets.gold.metrics import MetricTable
from monstera_assets.warehouse.tables import Table

_WHOLE = ("gold_accounts_needing_attention", "gold_state_distribution_anomalies")
"""Tables of which pages can read all columns."""
_BEHAVIOR = """engagement_intensity value_realization product_breadth journey_stage feature_adoption
    collaboration_type temporal_pattern composite_segment"""
_SCORES = "churn_probability risk_band reason_1 reason_2 reason_3"
_COLUMNS: dict[str, str] = {
    "bronze_product_catalog": "product_id product_name tier is_active",
    "silver_product_affinity": """
        first_product_id second_product_id users_first users_both is_low_support co_adoption_rate
        lift""",
    "silver_product_adoption_sequences": """
        path path_length first_product_id last_product_id users users_ending share_of_adopters
        median_days_since_previous retention_30 retention_90""",
    "silver_workflow_funnel": """
        workflow_id workflow_name event_type position is_last_step runs_started runs_reached
        reach_rate""",
    "gold_product_recommendations": """
        user_id recommendation_rank product_id recommendation_source score why""",
    "gold_recommendation_evaluation": """
        evaluation_date predictor users_judged is_published hit_rate_at_1 hit_rate_at_3
        mean_reciprocal_rank""",
    "gold_user_churn_scores": f"""
        user_id account_id {_SCORES} reason_1_effect reason_2_effect reason_3_effect""",
    "gold_account_churn_scores": f"account_id {_SCORES}",
    "gold_churn_model_evaluation": """
        entity evaluation_date predictor decile rows_scored predicted_share observed_share auc
        brier_score top_tenth_lift is_published""",
    "bronze_subscription_events": """
        event_id entity_id entity_type event_type event_timestamp event_date total_seats
        monthly_recurring_revenue currency subscription_tier""",
    "silver_account_current_state": """
        account_id current_state is_paid state_since state_reason subscription_tier total_seats
        active_seats health_score health_band monthly_recurring_revenue contract_renewal_date
        days_to_renewal products_active""",
    "silver_account_state_intervals": """
        account_id valid_from valid_to as_of_date current_state subscription_tier health_band""",
    "silver_user_current_state": """
        user_id account_id platform_state platform_state_since last_qualifying_event_at
        total_qualifying_events days_since_signup""",
    "silver_user_state_intervals": "user_id valid_from valid_to as_of_date platform_state",
    "silver_user_product_state_intervals": """
        user_id product_id valid_from valid_to as_of_date current_state""",
    "silver_behavioral_segments": f"user_id {_BEHAVIOR}",
    "silver_user_segment_history": f"user_id snapshot_date {_BEHAVIOR}",
}
"""The columns that pages read from other tables."""


def extract(metric_tables: Sequence[MetricTable]) -> dict[str, Table]:
    """Return the tables in the extract by name, each with the columns in the extract."""
    parts = [
        replace(
            table,
            columns=tuple(column for column in table.columns if column.name in names.split()),
            key=tuple(name for name in table.key if name in names.split()),
            partition_column=None,
        )
        for table, names in zip(map(_table, _COLUMNS), _COLUMNS.values(), strict=True)
    ]
    return {table.name: table for table in (*metric_tables, *map(_table, _WHOLE), *parts)}


def _table(name: str) -> Table:
    layer = name.partition("_")[0]
    table: Table = import_module(f"monstera_assets.{layer}.{name}").TABLE
    return table
