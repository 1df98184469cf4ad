"""Run the whole asset graph or parts of it for a source."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import duckdb

from monstera_assets.bronze import load_entities, load_events
from monstera_assets.bronze.load_entities import VERSIONED
from monstera_assets.definitions import build_definitions, table_assets, tables
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.operations.event_log import BatchedSqliteEventLogStorage
from monstera_assets.operations.runs import range_tags
from monstera_assets.settings import Settings
from monstera_assets.warehouse.table_asset import SAME_DAYS, asset_key
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.command_line import Outcome
from monstera_assets_tests.integration.example_assets import QUIET, Row, in_memory_instance

ENTITIES = tuple(table.name for table in load_entities.TABLES)
EVENTS = tuple(table.name for table in load_events.TABLES)


def batched_instance(home: Path, settings: str = "") -> dg.DagsterInstance:
    """Return an instance on SQLite, with the batched event log and these settings."""
    shutil.copytree(_new_home().name, home)
    with (home / "dagster.yaml").open("a") as file:
        file.write(settings)
    return dg.DagsterInstance.from_config(str(home))


@cache
def _new_home() -> TemporaryDirectory[str]:
    """Return the home of an instance without runs, since creating its tables is slow."""
    home = TemporaryDirectory()
    log = BatchedSqliteEventLogStorage
    (Path(home.name) / "dagster.yaml").write_text(
        f"event_log_storage:\n  module: {log.__module__}\n  class: {log.__name__}\n  config: {{}}\n"
        "telemetry:\n  enabled: false\n"
    )
    with dg.DagsterInstance.from_config(home.name) as instance:
        instance.all_asset_keys()  # this opens the event log, while the other storages are already open
    return home


@dataclass
class Graph:
    """The assets of the package, with one source and one database."""

    source: Path
    database: Path
    home: Path
    start: date
    policy: LifecyclePolicy = field(default_factory=LifecyclePolicy)
    timezone: str = "UTC"

    @cached_property
    def settings(self) -> Settings:
        """The configuration."""
        return Settings(
            source=self.source,
            database=self.database,
            start_date=self.start,
            policy=self.policy,
            timezone=self.timezone,
            threads=2,
        )

    @cached_property
    def definitions(self) -> dg.Definitions:
        """The definitions that Dagster loads."""
        return build_definitions(self.settings)

    @cached_property
    def instance(self) -> dg.DagsterInstance:
        """One instance for all runs."""
        return batched_instance(self.home)

    def run(
        self,
        window: DateWindow | None = None,
        only: Iterable[str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Run all assets with their checks, or only the named tables without checks.

        A run of named tables without a range keeps its events in memory, which is faster than
        creating a file for them.
        """
        partition: dict[str, Any] = {}
        if tags is not None:
            partition = {"tags": tags}
        elif window is not None and len(window) == 1:
            partition = {"partition_key": window.first.isoformat()}
        elif window is not None:
            partition = {"tags": range_tags(window)}
        if only is None:
            return self.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
                instance=self.instance, run_config=QUIET, raise_on_error=False, **partition
            )
        is_short = tags is None and (window is None or len(window) == 1)
        return dg.materialize(
            [
                asset
                for asset in self.definitions.assets or []
                if isinstance(asset, dg.AssetsDefinition)
            ],
            selection=dg.AssetSelection.assets(*(asset_key(name) for name in only)),
            instance=in_memory_instance() if is_short else self.instance,
            resources=self.definitions.resources,
            run_config=QUIET,
            raise_on_error=False,
            **partition,
        )

    def compute(self, names: Iterable[str], last: date) -> Graph:
        """Compute tables and all their upstream tables up to a day."""
        needed = computed_from(names)
        with self.instance:
            assert self.run(DateWindow(self.start, last), only=needed).success
        return self

    def contents(self, without: Sequence[str] = ()) -> dict[str, list[Row]]:
        """Return the sorted rows of each declared table, without the columns in `without`."""
        return self.contents_of([table.name for table in tables()], without)

    def contents_of(
        self, names: Sequence[str], without: Sequence[str] = ()
    ) -> dict[str, list[Row]]:
        """Return the rows of the named tables."""
        with duckdb.connect(str(self.database), read_only=True) as connection:
            return {
                table.name: rows_of(connection, table, without)
                for table in tables()
                if table.name in names
            }


def compared_columns(table: Table) -> list[str]:
    """Return the columns of a table, without the first day of versions.

    This day depends on which run was the first to read a row.
    """
    return [
        column.name
        for column in table.columns
        if table not in VERSIONED or column.name != "valid_from"
    ]


def rows_of(
    connection: duckdb.DuckDBPyConnection, table: Table, without: Sequence[str] = ()
) -> list[Row]:
    """Return the sorted rows of a table, in `compared_columns` except those in `without`."""
    columns = ", ".join(f'"{name}"' for name in compared_columns(table) if name not in without)
    return connection.execute(
        f"SELECT {columns} FROM {table.qualified_name} ORDER BY ALL"
    ).fetchall()


def assert_same(left: Mapping[str, list[Row]], right: Mapping[str, list[Row]]) -> None:
    """Compare tables, and show a few rows of the first table that differs."""
    assert left.keys() == right.keys()
    for name, rows in left.items():
        if rows != right[name]:
            only_left = [row for row in rows if row not in right[name]]
            only_right = [row for row in right[name] if row not in rows]
            raise AssertionError(
                f"{name}: {len(rows)} and {len(right[name])} rows;"
                f" only left {only_left[:5]}; only right {only_right[:5]}"
            )


def computed_from(names: Iterable[str]) -> list[str]:
    """Return some tables and all their upstream tables."""
    reads = {asset.table.name: asset.inputs for asset in table_assets()}
    needed, pending = set(ENTITIES) | set(EVENTS), list(names)
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending += reads[name]
    return sorted(needed)


def waves() -> list[tuple[str, ...]]:
    """Return the tables in groups, so that the days of a group can be computed in any order.

    A table is in a later group than the inputs from which it reads days other than its own.
    """
    partitioned = {table.name: table.partition_column is not None for table in tables()}
    wave = {**dict.fromkeys(ENTITIES, 0), **dict.fromkeys(EVENTS, 1)}
    pending = {asset.table.name: asset for asset in table_assets()}
    while pending:
        for name, asset in list(pending.items()):
            if not all(read in wave for read in asset.inputs):
                continue
            wave[name] = max(
                (
                    wave[read]
                    + (
                        0
                        if partitioned[name]
                        and partitioned[read]
                        and asset.days.get(read, SAME_DAYS) == SAME_DAYS
                        else 1
                    )
                    for read in asset.inputs
                ),
                default=0,
            )
            del pending[name]
    return [
        tuple(name for name in wave if wave[name] == number and partitioned[name] is by_day)
        for number in range(max(wave.values()) + 1)
        for by_day in (False, True)
        if any(wave[name] == number and partitioned[name] is by_day for name in wave)
    ]


def is_partitioned(name: str) -> bool:
    """Return whether a table has daily partitions."""
    [table] = [table for table in tables() if table.name == name]
    return table.partition_column is not None


@dataclass(frozen=True)
class SeedsRun:
    """The result of one `monstera run` over the seeds, and its event log.

    Attributes:
        outcome: the outcome of the process.
        days: all days of the seeds.
        evaluations: the evaluations of the checks.
        materializations: the latest materialization of each asset.
    """

    outcome: Outcome
    days: DateWindow
    evaluations: tuple[dg.AssetCheckEvaluation, ...]
    materializations: tuple[dg.AssetMaterialization, ...]

    @classmethod
    def of(cls, outcome: Outcome, days: DateWindow) -> SeedsRun:
        """Read the event log of a finished run."""
        [run_id] = re.findall(r"^Run: \w+ \(([0-9a-f-]+)\)$", outcome.out, re.MULTILINE) or [""]
        assert run_id, outcome.out + outcome.err
        with dg.DagsterInstance.from_config(str(outcome.database.parent / "dagster_home")) as log:
            evaluated = log.get_records_for_run(
                run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
            )
            made = [log.get_latest_materialization_event(key) for key in log.all_asset_keys()]
        return cls(
            outcome,
            days,
            tuple(
                record.event_log_entry.get_dagster_event().asset_check_evaluation_data
                for record in evaluated.records
            ),
            tuple(m for entry in made if entry and (m := entry.asset_materialization)),
        )

    @property
    def database(self) -> Path:
        """The warehouse."""
        return self.outcome.database

    @property
    def success(self) -> bool:
        """Whether no step failed."""
        return self.outcome.code == 0
