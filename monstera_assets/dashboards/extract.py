"""The tables and columns that pages read.

An engine other than DuckDB publishes this extract into a DuckDB file, from which the site is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from monstera_assets.bronze import bronze_product_catalog as catalog
from monstera_assets.bronze import bronze_subscription_events as billing
from monstera_assets.gold import gold_account_churn_scores as account_scores
from monstera_assets.gold import gold_accounts_needing_attention as attention
from monstera_assets.gold import gold_churn_model_evaluation as churn_evaluation
from monstera_assets.gold import gold_product_recommendations as recommendations
from monstera_assets.gold import gold_recommendation_evaluation as evaluation
from monstera_assets.gold import gold_state_distribution_anomalies as anomalies
from monstera_assets.gold import gold_user_churn_scores as user_scores
from monstera_assets.gold.metrics import MetricTable
from monstera_assets.silver import silver_account_current_state as accounts
from monstera_assets.silver import silver_account_state_intervals as account_intervals
from monstera_assets.silver import silver_behavioral_segments as segments
from monstera_assets.silver import silver_cross_product_analytics as portfolios
from monstera_assets.silver import silver_product_adoption_sequences as paths
from monstera_assets.silver import silver_product_affinity as affinity
from monstera_assets.silver import silver_user_current_state as users
from monstera_assets.silver import silver_user_product_state_intervals as product_intervals
from monstera_assets.silver import silver_user_segment_history as segment_history
from monstera_assets.silver import silver_user_state_intervals as user_intervals
from monstera_assets.silver import silver_workflow_funnel as funnel
from monstera_assets.warehouse.tables import Table

_WHOLE = (attention.TABLE, anomalies.TABLE)
"""Tables of which pages can read all columns."""
_BEHAVIOR = """engagement_intensity value_realization product_breadth journey_stage feature_adoption
    collaboration_type temporal_pattern composite_segment"""
_SCORES = "churn_probability risk_band reason_1 reason_2 reason_3"
_COLUMNS: dict[Table, str] = {
    catalog.TABLE: "product_id product_name tier is_active",
    portfolios.TABLE: "products_tried products_active",
    affinity.TABLE: """first_product_id second_product_id users_first users_both is_low_support
        co_adoption_rate lift""",
    paths.TABLE: """path path_length first_product_id last_product_id users users_ending
        share_of_adopters median_days_since_previous users_mature_30 retention_30 users_mature_90
        retention_90""",
    funnel.TABLE: """workflow_id workflow_name event_type position is_last_step runs_started
        runs_reached reach_rate""",
    recommendations.TABLE: """user_id recommendation_rank product_id recommendation_source score
        because_product_id why""",
    evaluation.TABLE: """evaluation_date predictor users_judged is_published hit_rate_at_1
        hit_rate_at_3 mean_reciprocal_rank""",
    user_scores.TABLE: f"""user_id account_id {_SCORES} reason_1_effect reason_2_effect
        reason_3_effect""",
    account_scores.TABLE: f"account_id {_SCORES}",
    churn_evaluation.TABLE: """entity evaluation_date predictor decile rows_scored predicted_share
        observed_share auc brier_score top_tenth_lift is_published""",
    billing.TABLE: """event_id entity_id entity_type event_type event_timestamp event_date total_seats
        monthly_recurring_revenue currency subscription_tier""",
    accounts.TABLE: """account_id current_state state_since state_reason subscription_tier total_seats
        active_seats health_score health_band monthly_recurring_revenue contract_renewal_date
        days_to_renewal products_active""",
    account_intervals.TABLE: """account_id valid_from valid_to as_of_date current_state
        subscription_tier health_score monthly_recurring_revenue total_seats active_seats""",
    users.TABLE: """user_id account_id platform_state platform_state_since last_qualifying_event_at
        total_qualifying_events days_since_signup""",
    user_intervals.TABLE: "user_id valid_from valid_to as_of_date account_id platform_state",
    product_intervals.TABLE: "user_id product_id valid_from valid_to as_of_date current_state",
    segments.TABLE: f"user_id {_BEHAVIOR}",
    segment_history.TABLE: f"user_id snapshot_date {_BEHAVIOR}",
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
        for table, names in _COLUMNS.items()
    ]
    return {table.name: table for table in (*metric_tables, *_WHOLE, *parts)}
