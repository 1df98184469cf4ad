"""The tables and columns that pages read.

An engine other than DuckDB publishes this extract into a DuckDB file, from which the site is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from monstera_assets.bronze import bronze_product_catalog as catalog
from monstera_assets.gold import gold_accounts_needing_attention as attention
from monstera_assets.gold import gold_product_recommendations as recommendations
from monstera_assets.gold import gold_recommendation_evaluation as evaluation
from monstera_assets.gold import gold_state_distribution_anomalies as anomalies
from monstera_assets.gold.metrics import MetricTable
from monstera_assets.silver import silver_cross_product_analytics as portfolios
from monstera_assets.silver import silver_product_adoption_sequences as paths
from monstera_assets.silver import silver_product_affinity as affinity
from monstera_assets.silver import silver_workflow_funnel as funnel
from monstera_assets.warehouse.tables import Table

_WHOLE = (attention.TABLE, anomalies.TABLE)
"""Tables of which pages can read all columns."""
_COLUMNS: dict[Table, tuple[str, ...]] = {
    catalog.TABLE: ("product_id", "product_name", "tier", "is_active"),
    portfolios.TABLE: ("products_tried", "products_active"),
    affinity.TABLE: (
        *("first_product_id", "second_product_id", "users_first", "users_both"),
        *("is_low_support", "co_adoption_rate", "lift"),
    ),
    paths.TABLE: (
        *("path", "path_length", "first_product_id", "last_product_id", "users", "users_ending"),
        *("share_of_adopters", "median_days_since_previous", "users_mature_30", "retention_30"),
        *("users_mature_90", "retention_90"),
    ),
    funnel.TABLE: (
        *("workflow_id", "workflow_name", "event_type", "position", "is_last_step"),
        *("runs_started", "runs_reached", "reach_rate"),
    ),
    recommendations.TABLE: (
        *("recommendation_rank", "product_id", "recommendation_source", "because_product_id"),
    ),
    evaluation.TABLE: (
        *("evaluation_date", "predictor", "users_judged", "is_published"),
        *("hit_rate_at_1", "hit_rate_at_3", "mean_reciprocal_rank"),
    ),
}
"""The columns that pages read from other tables."""


def extract(metric_tables: Sequence[MetricTable]) -> dict[str, Table]:
    """Return the tables in the extract by name, each with the columns in the extract."""
    parts = [
        replace(
            table,
            columns=tuple(column for column in table.columns if column.name in names),
            key=tuple(name for name in table.key if name in names),
            partition_column=None,
        )
        for table, names in _COLUMNS.items()
    ]
    return {table.name: table for table in (*metric_tables, *_WHOLE, *parts)}
