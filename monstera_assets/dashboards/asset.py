"""The dashboards/static_site asset, which builds the static dashboard site."""

from __future__ import annotations

from collections.abc import Sequence

from dagster import AssetKey, AssetsDefinition, MaterializeResult, MetadataValue, asset

from monstera_assets.bronze.bronze_product_catalog import TABLE as CATALOG
from monstera_assets.bronze.bronze_subscription_events import TABLE as BILLING
from monstera_assets.dashboards import OWNERS
from monstera_assets.gold.gold_account_churn_scores import TABLE as ACCOUNT_SCORES
from monstera_assets.gold.gold_accounts_needing_attention import TABLE as ATTENTION
from monstera_assets.gold.gold_churn_model_evaluation import TABLE as EVALUATION
from monstera_assets.gold.gold_product_recommendations import TABLE as RECOMMENDATIONS
from monstera_assets.gold.gold_state_distribution_anomalies import TABLE as ANOMALIES
from monstera_assets.gold.gold_user_churn_scores import TABLE as USER_SCORES
from monstera_assets.gold.metrics import MetricTable
from monstera_assets.settings import Settings
from monstera_assets.silver.silver_account_current_state import TABLE as ACCOUNTS
from monstera_assets.silver.silver_account_state_intervals import TABLE as ACCOUNT_INTERVALS
from monstera_assets.silver.silver_behavioral_segments import TABLE as SEGMENTS
from monstera_assets.silver.silver_cross_product_analytics import TABLE as PORTFOLIOS
from monstera_assets.silver.silver_product_adoption_sequences import TABLE as PATHS
from monstera_assets.silver.silver_product_affinity import TABLE as AFFINITY
from monstera_assets.silver.silver_user_current_state import TABLE as USERS
from monstera_assets.silver.silver_user_product_state_history import TABLE as PRODUCT_HISTORY
from monstera_assets.silver.silver_user_product_state_intervals import TABLE as PRODUCT_INTERVALS
from monstera_assets.silver.silver_user_segment_history import TABLE as SEGMENT_HISTORY
from monstera_assets.silver.silver_user_state_intervals import TABLE as USER_INTERVALS
from monstera_assets.warehouse.resource import Warehouse
from monstera_assets.warehouse.table_asset import asset_key

KEY = AssetKey(["dashboards", "static_site"])
GROUP = "dashboards"

OTHER_TABLES = (
    *(CATALOG, BILLING, ACCOUNTS, ACCOUNT_INTERVALS, ACCOUNT_SCORES, ATTENTION),
    *(USERS, USER_INTERVALS, USER_SCORES, PRODUCT_INTERVALS, SEGMENTS, SEGMENT_HISTORY),
    *(EVALUATION, ANOMALIES, RECOMMENDATIONS),
    *(PORTFOLIOS, PATHS, AFFINITY, PRODUCT_HISTORY),
)
"""Other tables, from which pages read product names and facts that gold tables do not aggregate."""


def build_static_site(settings: Settings, tables: Sequence[MetricTable]) -> AssetsDefinition:
    """Return the asset that builds the site from all declared metric tables."""

    @asset(
        key=KEY,
        deps=[asset_key(table.name) for table in (*tables, *OTHER_TABLES)],
        group_name=GROUP,
        owners=list(OWNERS),
        kinds={"html"},
        description="How are the platform, each product and the accounts performing? This static site"
        " shows the metrics and can be opened from disk, without a network connection or a server."
        " Each build replaces all pages."
        "\n\nGrain: one page per view, for the platform and for each active product.",
    )
    def static_site(warehouse: Warehouse) -> MaterializeResult[None]:
        # Imported here because only this step needs the module.
        from monstera_assets.dashboards.site import build_site

        with warehouse.connect() as connection:
            report = build_site(connection, settings.dashboards, tables, settings)
        return MaterializeResult(
            metadata={
                "path": MetadataValue.path(report.index.absolute()),
                "pages": report.pages,
                "bytes": report.bytes,
                "as_of_date": str(report.as_of) if report.as_of else "none",
            }
        )

    definition: AssetsDefinition = static_site
    return definition
