"""The dashboards/static_site asset, which builds the static dashboard site."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    MaterializeResult,
    MetadataValue,
    asset,
)

from monstera_assets.dashboards import OWNERS
from monstera_assets.dashboards.extract import extract
from monstera_assets.gold.metrics import MetricTable
from monstera_assets.settings import Settings
from monstera_assets.warehouse.resource import DuckDBWarehouse
from monstera_assets.warehouse.table_asset import asset_key

KEY = AssetKey(["dashboards", "static_site"])
GROUP = "dashboards"


def build_static_site(settings: Settings, tables: Sequence[MetricTable]) -> AssetsDefinition:
    """Return the asset that builds the site, which depends on the tables in the extract."""

    @asset(
        key=KEY,
        deps=[asset_key(table.name) for table in extract(tables).values()],
        group_name=GROUP,
        owners=list(OWNERS),
        kinds={"html"},
        description="How are the platform, each product and the accounts performing? This static site"
        " shows the metrics and can be opened from disk, without a network connection or a server."
        " Each build replaces all pages."
        "\n\nGrain: one page per subject, active product, account and person that a page names.",
    )
    def static_site(warehouse: DuckDBWarehouse) -> MaterializeResult[None]:
        # Imported here because only this step needs the module.
        from monstera_assets.dashboards.site import build_site
        from monstera_assets.operations.status import read_status

        instance = AssetExecutionContext.get().instance
        status = read_status(instance, settings, datetime.now(UTC))
        with warehouse.connect() as connection:
            report = build_site(connection, settings.dashboards, tables, settings, status)
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
