"""dashboards/static_site: the site as an asset, built after gold and with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dagster import AssetKey, AssetsDefinition, MaterializeResult, MetadataValue, asset

from monstera_assets.bronze.bronze_product_catalog import TABLE as CATALOG
from monstera_assets.dashboards import OWNERS
from monstera_assets.gold.metrics import MetricTable
from monstera_assets.silver.silver_account_current_state import TABLE as ACCOUNTS
from monstera_assets.silver.silver_cross_product_analytics import TABLE as PORTFOLIOS
from monstera_assets.silver.silver_product_adoption_sequences import TABLE as PATHS
from monstera_assets.silver.silver_product_affinity import TABLE as AFFINITY
from monstera_assets.silver.silver_user_product_state_history import TABLE as PRODUCT_HISTORY
from monstera_assets.warehouse.resource import Warehouse
from monstera_assets.warehouse.table_asset import asset_key

KEY = AssetKey(["dashboards", "static_site"])
GROUP = "dashboards"

OTHER_TABLES = (CATALOG, ACCOUNTS, PORTFOLIOS, PATHS, AFFINITY, PRODUCT_HISTORY)
"""Tables beside those of gold that pages read: names of products, and what gold does not sum up."""


def build_static_site(output: Path, tables: Sequence[MetricTable]) -> AssetsDefinition:
    """The asset that builds the site.

    Args:
        output: the folder of the site.
        tables: the declared tables of metrics.
    """

    @asset(
        key=KEY,
        deps=[asset_key(table.name) for table in (*tables, *OTHER_TABLES)],
        group_name=GROUP,
        owners=list(OWNERS),
        kinds={"html"},
        description="The dashboards: a static site of the metrics that is opened from disk, without"
        " network or server. Replaced as a whole.\n\nGrain: one page a view, for the platform and each"
        " active product.",
    )
    def static_site(warehouse: Warehouse) -> MaterializeResult[None]:
        # Imported late: only who builds pages waits for them.
        from monstera_assets.dashboards.site import build_site

        with warehouse.connect() as connection:
            report = build_site(connection, output, tables)
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
