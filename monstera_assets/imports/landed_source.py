"""The imports/landed_source asset, which imports the exports before bronze loads them.

In a run of `monstera run`, and in the daily run, the exports were imported before the run's days were
chosen, so the asset only reads the ledger. A run that was started in the UI imports first.
"""

from collections import Counter
from collections.abc import Mapping

import duckdb
from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    AssetSpec,
    MaterializeResult,
    MetadataValue,
    asset,
)
from dagster._core.definitions.metadata import RawMetadataValue

from monstera_assets.imports import LANDED_SOURCE, OWNERS, landing
from monstera_assets.imports.awaiting import awaiting_import
from monstera_assets.imports.event_rows import DESCRIBED, LANDED, MALFORMED, REASONS
from monstera_assets.settings import Settings
from monstera_assets.source.sql import literal
from monstera_assets.warehouse.layers import AssetGroup
from monstera_assets.warehouse.resource import Warehouse

KEY = AssetKey(["imports", LANDED_SOURCE])


def export_specs(settings: Settings) -> list[AssetSpec]:
    """Return the exports as external assets, one for each `[[import]]`."""
    specs: list[AssetSpec] = []
    repeated: Counter[str] = Counter()
    for number, each in enumerate(settings.imports):
        repeated[each.kind] += 1
        count = repeated[each.kind]
        specs.append(
            AssetSpec(
                AssetKey(["exports", str(each.kind) if count == 1 else f"{each.kind}_{count}"]),
                group_name=str(AssetGroup.INTAKE),
                owners=list(OWNERS),
                kinds={str(each.kind)},
                description=f"Which raw files does import.{number} read? They are outside of Monstera,"
                " and are never changed.",
                metadata={"path": MetadataValue.path(each.path or ".")},
            )
        )
    return specs


def build_landed_source(settings: Settings) -> AssetsDefinition:
    """Return the asset that imports the exports into the source folder."""

    @asset(
        key=KEY,
        deps=[spec.key for spec in export_specs(settings)],
        group_name=str(AssetGroup.INTAKE),
        owners=list(OWNERS),
        kinds={"parquet"},
        description="What happened to each row of the exports? The import writes rows to the source"
        " folder, and counts the rows that landed, were set aside, describe users and accounts, or"
        " cannot be read. New and changed files are read, and only days whose rows differ are written."
        "\n\nGrain: one file per day of events, and one file per other input.",
    )
    def landed_source(
        context: AssetExecutionContext, warehouse: Warehouse
    ) -> MaterializeResult[None]:
        metadata: dict[str, RawMetadataValue] = {
            "path": MetadataValue.path(settings.source.absolute())
        }
        if awaiting_import(settings) is None:
            context.log.info("The exports have not changed since the last import.")
        else:
            # Slow to import, and not needed if the exports have landed.
            from monstera_assets.imports.importer import run_import

            report = run_import(settings, open_warehouse=warehouse.get_connection)
            metadata["files_written"] = len(report.written)
            metadata["files_removed"] = len(report.removed)
        return MaterializeResult(metadata={**metadata, **ledger_totals(settings)})

    definition: AssetsDefinition = landed_source
    return definition


def ledger_totals(settings: Settings) -> Mapping[str, int]:
    """Return the ledger's total rows by outcome, and the number of raw files."""
    counts = {
        "rows_read": "rows_read",
        **{name: name for name in (LANDED, DESCRIBED, MALFORMED)},
        **{f"set_aside_{name}": name for name in REASONS},
        "raw_files": "is_present::INTEGER",
        "vanished_files": "(NOT is_present)::INTEGER",
        "unrecognized_files": "(content = 'not recognized')::INTEGER",
    }
    sums = ", ".join(f"coalesce(sum({each}), 0)::BIGINT" for each in counts.values())
    ledger = literal(str(settings.source / landing.LEDGER))
    with duckdb.connect() as connection:
        [row] = connection.execute(f"SELECT {sums} FROM read_parquet({ledger})").fetchall()
    return dict(zip(counts, row, strict=True))
