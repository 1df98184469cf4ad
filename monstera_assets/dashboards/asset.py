"""The dashboards/static_site asset, which builds the static dashboard site."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from monstera_assets.dashboards import OWNERS
from monstera_assets.dashboards.extract import extract
from monstera_assets.gold.metrics import MetricTable
from monstera_assets.settings import Settings
from monstera_assets.warehouse.layers import AssetGroup
from monstera_assets.warehouse.resource import Warehouse
from monstera_assets.warehouse.table_asset import asset_key

KEY = dg.AssetKey(["dashboards", "static_site"])


def build_static_site(settings: Settings, tables: Sequence[MetricTable]) -> dg.AssetsDefinition:
    """Return the asset that builds the site, which depends on the tables in the extract."""

    @dg.asset(
        key=KEY,
        deps=[asset_key(one.name) for one in extract(tables).values() if one.is_available],
        group_name=str(AssetGroup.DASHBOARDS),
        owners=list(OWNERS),
        kinds={"html"},
        description="How are the platform, each product and the accounts performing? This static site"
        " shows the metrics and can be opened from disk, without a network connection or a server."
        " Each build replaces all pages."
        "\n\nGrain: one page per subject, active product, account and person that a page names.",
    )
    def static_site(warehouse: Warehouse) -> dg.MaterializeResult[None]:
        # Imported here because only this step needs the module.
        from monstera_assets.dashboards.site import build_site
        from monstera_assets.operations.status import read_status

        instance = dg.AssetExecutionContext.get().instance
        status = read_status(instance, settings, datetime.now(UTC))
        with warehouse.get_connection() as connection:
            report = build_site(connection, settings.dashboards, tables, settings, status)
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(report.index.absolute()),
                "pages": report.pages,
                "bytes": report.bytes,
                "as_of_date": str(report.as_of) if report.as_of else "none",
            }
        )

    definition: dg.AssetsDefinition = static_site
    return definition
