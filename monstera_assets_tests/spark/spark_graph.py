"""Run the graph on Spark, and compare all tables with those of the graph on DuckDB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property

import dagster as dg
import duckdb
from pydantic import SecretStr

from monstera_assets.definitions import copied_tables, tables
from monstera_assets.settings import Settings
from monstera_assets.warehouse.errors import MissingTableError
from monstera_assets.warehouse.iceberg.catalog import IcebergCatalog, open_catalog
from monstera_assets.warehouse.iceberg.stored_table import StoredTable, typed_rows
from monstera_assets.warehouse.tables import Table
from monstera_assets_tests.integration.example_runs import Graph

_OURS, _THEIRS = "ours", "theirs"


@dataclass
class SparkGraph(Graph):
    """The assets of the package on Spark, with one source and one database."""

    remote: str = ""
    catalog_uri: str = ""
    more: Mapping[str, object] = field(default_factory=dict)

    @cached_property
    def settings(self) -> Settings:
        """The configuration."""
        on_duckdb = super().settings
        return on_duckdb.model_copy(
            update={
                "engine": "spark",
                "spark_remote": SecretStr(self.remote),
                "warehouse": f"file://{self.database.parent}/iceberg",
                "catalog": {
                    "type": SecretStr("sql"),
                    "uri": SecretStr(
                        self.catalog_uri or f"sqlite:///{self.database.parent}/catalog.db"
                    ),
                },
                **self.more,
            }
        )

    def open_catalog(self) -> IcebergCatalog:
        """Open the catalog."""
        properties = self.settings.catalog.items()
        return open_catalog(
            str(self.settings.warehouse),
            {name: value.get_secret_value() for name, value in properties},
        )


def differences(
    graph: SparkGraph, database: str, tables_: list[Table] | None = None
) -> dict[str, str]:
    """Return how tables in Iceberg, and their copies, differ from those of a DuckDB warehouse.

    Floats may differ by a billionth of their size. All else must be equal.
    """
    found: dict[str, str] = {}
    copied = {*copied_tables(graph.settings, tables(graph.settings))}
    with duckdb.connect() as connection, closing(graph.open_catalog()) as catalog:
        connection.execute(f"ATTACH '{database}' AS expected (READ_ONLY)")
        connection.execute(f"ATTACH '{graph.database}' AS driver (READ_ONLY)")
        for table in tables_ or tables(graph.settings):
            expected = f"SELECT * FROM expected.{table.qualified_name}"
            try:
                stored = catalog.stored(table)
            except MissingTableError:
                found[table.name] = "missing"
                continue
            if message := _difference(connection, table, expected, _in_iceberg(connection, stored)):
                found[table.name] = message
            if table.name in copied or (
                table.layer == "bronze" and table.name != "bronze_source_faults"
            ):
                rows = f"SELECT * FROM driver.{table.qualified_name}"
                if message := _difference(connection, table, expected, rows):
                    found[f"copy of {table.name}"] = message
    return found


def _in_iceberg(connection: duckdb.DuckDBPyConnection, stored: StoredTable) -> str:
    connection.register("stored_rows", stored.dataset())
    return typed_rows(stored.declared, "FROM stored_rows", stored.latest_day)


def _difference(
    connection: duckdb.DuckDBPyConnection, table: Table, expected: str, rows: str
) -> str:
    """Return how rows differ. Rows are matched by their order, with floats rounded to 6 digits."""
    exact = [column for column in table.columns if column.stored_type != "DOUBLE"]
    floats = [column for column in table.columns if column.stored_type == "DOUBLE"]
    order = ", ".join(
        [*(f'"{column.name}"' for column in exact), *(f'round("{c.name}", 6)' for c in floats)]
    )
    for name, select in ((_OURS, expected), (_THEIRS, rows)):
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT row_number() OVER (ORDER BY {order}) AS"
            f" place, * FROM ({select})"
        )
    differ = [
        *(
            f'count(*) FILTER (WHERE ours."{c.name}" IS DISTINCT FROM theirs."{c.name}")'
            for c in exact
        ),
        *(f"count(*) FILTER (WHERE {_far(c.name)})" for c in floats),
    ]
    [(missing, added, *counts)] = connection.execute(
        "SELECT count(*) FILTER (WHERE theirs.place IS NULL), count(*) FILTER (WHERE ours.place IS"
        f" NULL), {', '.join(differ)} FROM {_OURS} FULL JOIN {_THEIRS} USING (place)"
    ).fetchall()
    named = zip((column.name for column in (*exact, *floats)), counts, strict=True)
    columns = {name: rows for name, rows in named if rows}
    if not columns and not missing and not added:
        return ""
    return f"{missing} rows missing, {added} added, by column {columns}"


def _far(name: str) -> str:
    ours, theirs = f'ours."{name}"', f'theirs."{name}"'
    near = f"abs({ours} - {theirs}) <= 1e-9 * greatest(abs({ours}), abs({theirs}))"
    return f"NOT coalesce({near}, {ours} IS NOT DISTINCT FROM {theirs})"


def evaluations(
    instance: dg.DagsterInstance, run_id: str
) -> dict[tuple[str, str], tuple[object, ...]]:
    """Return the outcome of each check of a run: whether it passed, and its violations."""
    kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION
    return {
        (found.asset_key.path[-1], found.check_name): (
            found.passed,
            found.metadata["violations"].value,
            found.description,
        )
        for record in instance.get_records_for_run(run_id, of_type=kind).records
        if (found := record.event_log_entry.dagster_event.asset_check_evaluation_data)  # type: ignore[union-attr]
    }


def failures(done: dg.ExecuteInProcessResult) -> Iterator[str]:
    """Yield the errors of failed steps."""
    for event in done.all_events:
        if event.is_step_failure:
            yield f"{event.step_key}: {event.step_failure_data.error}"
