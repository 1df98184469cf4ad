"""The import is the first node of the graph, and the daily run chooses its days after the import."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster_shared.serdes import serialize_value

from monstera_assets.bronze.load_events import CHANGED_DAYS
from monstera_assets.definitions import build_alerts, build_definitions, tables
from monstera_assets.imports import landed_source
from monstera_assets.imports.importer import run_import
from monstera_assets.operations.forget import forget_person
from monstera_assets.operations.jobs import IMPORT_EXPORTS, SELECTED
from monstera_assets.operations.last_day import DaysWithoutDataError, require_data
from monstera_assets.operations.runs import range_tags
from monstera_assets.settings import Settings
from monstera_assets.source.errors import SourceError
from monstera_assets.warehouse.table_asset import asset_key
from monstera_assets.warehouse.windows import RANGE_END_TAG, RANGE_START_TAG, DateWindow
from monstera_assets_tests.helpers.import_samples import CATALOG, SAMPLES, STRIPE
from monstera_assets_tests.integration.example_assets import QUIET
from monstera_assets_tests.integration.example_runs import ENTITIES, EVENTS, batched_instance

FIRST, LAST = date(2025, 6, 2), date(2025, 6, 11)
LATEST = "events/2025-06-11T00:00:00+00:00-2025-06-12T00:00:00+00:00.parquet.zst"
"""The raw file of the sample with the only event of the last day, a document that Ben published."""
BEN = "018f2c00-0000-7000-8000-00000000000b"
LOADS = [asset_key(name) for name in (*ENTITIES, *EVENTS)]


@dataclass
class Imports:
    """PostHog's sample, of which the latest raw file has not been delivered, and the graph."""

    folder: Path
    instance: dg.DagsterInstance

    @property
    def settings(self) -> Settings:
        table = SAMPLES["posthog-parquet"].import_table(self.folder / "raw")
        return Settings(
            source=self.folder / "source",
            database=self.folder / "monstera.duckdb",
            start_date=FIRST,
            threads=2,
            imports=(table,),
        )

    @cached_property
    def definitions(self) -> dg.Definitions:
        """The definitions, which Dagster also loads once for all mornings."""
        return build_definitions(self.settings)

    def deliver(self, name: str = LATEST) -> None:
        shutil.copy(SAMPLES["posthog-parquet"].raw / name, self.folder / "raw" / name)

    def run(
        self, job: str, window: DateWindow | None = None, only: Sequence[dg.AssetKey] = ()
    ) -> dg.ExecuteInProcessResult:
        """Run a job, or some of its assets with their checks."""
        return self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            run_config=QUIET,
            raise_on_error=False,
            asset_selection=only or None,
            tags=range_tags(window) if window else None,
        )

    def tick(self, name: str, morning: date) -> dg.RunRequest | dg.SkipReason:
        """Evaluate a schedule at 05:00."""
        schedule = self.definitions.resolve_schedule_def(name)
        at = datetime(morning.year, morning.month, morning.day, 5, tzinfo=UTC)
        with dg.build_schedule_context(
            instance=self.instance, scheduled_execution_time=at
        ) as context:
            result = schedule(context)
        assert isinstance(result, dg.RunRequest | dg.SkipReason)
        return result

    def loaded(self) -> int:
        with duckdb.connect(self.settings.database, read_only=True) as connection:
            return len(connection.execute("FROM bronze.bronze_events").fetchall())


@pytest.fixture
def imports(tmp_path: Path) -> Iterator[Imports]:
    shutil.copytree(SAMPLES["posthog-parquet"].raw, tmp_path / "raw")
    (tmp_path / "raw" / LATEST).unlink()
    (tmp_path / "source").mkdir()
    shutil.copy(CATALOG, tmp_path / "source")
    with batched_instance(tmp_path / "home") as instance:
        yield Imports(tmp_path, instance)


def graph_of(settings: Settings) -> AssetGraph:
    return build_definitions(settings).resolve_asset_graph()


def test_the_exports_are_the_first_nodes(tmp_path: Path) -> None:
    segment = SAMPLES["segment"].import_table()
    settings = Settings(
        source=tmp_path, start_date=FIRST, imports=(segment, STRIPE.import_table(), segment)
    )
    graph = graph_of(settings)
    node = graph.get(landed_source.KEY)
    assert {tuple(key.path) for key in node.parent_keys} == {
        ("exports", "segment"),
        ("exports", "stripe"),
        ("exports", "segment_2"),
    }
    assert not any(
        graph.get(key).is_executable or graph.get(key).parent_keys for key in node.parent_keys
    )
    assert node.child_keys == {*LOADS}
    for each in (node, *(graph.get(key) for key in node.parent_keys)):
        assert each.group_name == "intake"
        question, _, rest = (each.description or "").partition("?")
        assert ". " not in question
        assert "\n\nPage: `docs/how-to/importing.md`" in rest
    assert node.owners == ["team:data-platform"]
    blocking = {
        key.name
        for key in graph.get_check_keys_for_assets({landed_source.KEY})
        if graph.get(key).blocking
    }
    assert blocking == {"rows_add_up", "landed_rows_are_in_the_source", "most_rows_are_used"}


def test_the_daemon_and_the_ui_can_load_the_graph(tmp_path: Path) -> None:
    imports = (STRIPE.import_table(), *[SAMPLES["segment"].import_table()] * 2)
    settings = Settings(source=tmp_path, start_date=FIRST, imports=imports)
    repository = build_definitions(settings).get_repository_def()
    assert '"exports", "segment_2"' in serialize_value(RepositorySnap.from_def(repository))


def test_the_daily_run_looks_once_after_the_last_import(tmp_path: Path) -> None:
    imports = (SAMPLES["segment"].import_table(),)
    definitions = build_definitions(
        Settings(source=tmp_path, start_date=FIRST, imports=imports, daily_run_at=time(5))
    )
    before = ["0,10,20,30,40,50 5 * * *", "0,10,20,30,40,50 6 * * *"]
    for name, last in {"daily_import": "0 7 * * *", "daily_run": "0,10 7 * * *"}.items():
        assert definitions.resolve_schedule_def(name).cron_schedule == [*before, last]


def test_without_imports_the_graph_has_no_such_node(tmp_path: Path) -> None:
    definitions = build_definitions(Settings(source=tmp_path, start_date=FIRST))
    keys = definitions.resolve_asset_graph().get_all_asset_keys()
    assert not {key.path[0] for key in keys} & {"imports", "exports"}
    assert {schedule.name for schedule in definitions.schedules or ()} == {
        "daily_run",
        "expire_raw_events_monthly",
    }


def test_mornings(imports: Imports) -> None:
    with pytest.raises(SourceError, match="have not been imported"):
        build_definitions(imports.settings.model_copy(update={"start_date": None}))

    morning = LAST
    assert isinstance(imports.tick("daily_run", morning), dg.SkipReason)
    first = imports.tick("daily_import", morning)
    assert isinstance(first, dg.RunRequest)
    assert imports.tick("daily_import", morning) == first, "Dagster starts one run for a key."

    done = imports.run(IMPORT_EXPORTS)
    assert done.success
    [made] = done.asset_materializations_for_node("imports__landed_source")
    # Counted by hand from exports/posthog: 19 events of which one is of the last day, and what is
    # set aside.
    shown = {
        name: value.value or 0
        for name, value in made.metadata.items()
        if isinstance(value, dg.IntMetadataValue)
    }
    assert shown["landed"] == 18
    set_aside = sum(rows for name, rows in shown.items() if name.startswith("set_aside_"))
    assert shown["rows_read"] == shown["landed"] + shown["described"] + set_aside
    assert shown["raw_files"] == 11
    assert shown["malformed"] == shown["vanished_files"] == 0
    checks = done.get_asset_check_evaluations()
    assert len(checks) == 7
    assert all(check.passed for check in checks)

    assert imports.tick("daily_import", morning) == dg.SkipReason(
        "No export is new or has changed since the last import."
    )
    request = imports.tick("daily_run", morning)
    assert isinstance(request, dg.RunRequest)
    window = DateWindow(FIRST, LAST - timedelta(days=1))
    assert request.tags.items() >= range_tags(window).items()
    done = imports.run(SELECTED, window, [landed_source.KEY, *LOADS])
    assert done.success
    [made] = done.asset_materializations_for_node("imports__landed_source")
    assert made.metadata["landed"].value == 18
    assert "files_written" not in made.metadata, "what has landed is not imported again"
    assert imports.loaded() == 18

    # The next day's file arrives late: nothing is computed before it has landed.
    next_morning = LAST + timedelta(days=1)
    assert imports.tick("daily_import", next_morning) == imports.tick("daily_import", morning)
    imports.deliver()
    second = imports.tick("daily_import", next_morning)
    assert isinstance(second, dg.RunRequest)
    assert second.run_key != first.run_key
    assert imports.tick("daily_run", next_morning) == dg.SkipReason(
        "The job import_exports has not imported the exports yet."
    )
    assert imports.run(IMPORT_EXPORTS).success
    request = imports.tick("daily_run", next_morning)
    assert isinstance(request, dg.RunRequest)
    assert request.tags[RANGE_END_TAG] == str(LAST)
    assert str(LAST) in request.tags[CHANGED_DAYS]
    window = DateWindow(date.fromisoformat(request.tags[RANGE_START_TAG]), LAST)
    assert imports.run(SELECTED, window, LOADS).success
    assert imports.loaded() == 19


def test_a_run_of_the_ui_imports_first(imports: Imports) -> None:
    days = DateWindow(FIRST, LAST)
    selection = [landed_source.KEY, *LOADS]
    run_import(imports.settings)
    origin = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "__repository__")
    run = dg.DagsterRun(
        SELECTED, tags=range_tags(days), remote_job_origin=RemoteJobOrigin(origin, SELECTED)
    )
    with pytest.raises(DaysWithoutDataError, match="The last day of data is 2025-06-10"):
        require_data(run, imports.instance, imports.settings, FIRST)
    assert imports.run(SELECTED, DateWindow(FIRST, LAST - timedelta(days=1)), selection).success
    forget_person(imports.settings, BEN, tables())

    imports.deliver()
    require_data(run, imports.instance, imports.settings, FIRST)
    done = imports.run(SELECTED, days, selection)
    assert done.success
    [made] = done.asset_materializations_for_node("imports__landed_source")
    assert made.metadata["files_written"].value
    assert imports.loaded() == 19
    paths = [
        *imports.settings.source.glob("*.parquet"),
        *imports.settings.source.glob("events/*/*"),
    ]
    assert paths
    with duckdb.connect() as connection:
        for path in paths:
            [(text,)] = connection.execute(
                f"SELECT coalesce(string_agg(rows::VARCHAR), '') FROM '{path}' AS rows"
            ).fetchall()
            assert BEN not in text
            assert "ben@northwind.example" not in text


def test_an_import_that_loses_rows_alerts_and_blocks(imports: Imports) -> None:
    assert imports.run(IMPORT_EXPORTS).success
    assert build_alerts(imports.settings).report(imports.instance) == []
    (imports.folder / "raw" / "events" / "x.jsonl").write_text('{"event": \n' * 200)
    imports.deliver()
    done = imports.run(SELECTED, DateWindow(FIRST, LAST), [landed_source.KEY, *LOADS])
    assert not done.success
    [message] = build_alerts(imports.settings).report(imports.instance)
    assert "[P0] Monstera: landed_source.most_rows_are_used and" in message
    assert "Owner: team:data-platform" in message
    assert "Observed: `events/x.jsonl: malformed: 1, expected 0.5, and 1 more.`" in message
    assert "What to do: Compare the raw files" in message
    made = {event.asset_key for event in done.get_asset_materialization_events()}
    assert made == {landed_source.KEY}


def test_a_file_that_is_cut_off_fails_the_import_and_alerts(
    imports: Imports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dg.RetryPolicy, "calculate_delay", lambda *_: 0)  # retry at once
    assert imports.run(IMPORT_EXPORTS).success
    imports.deliver()
    path = imports.folder / "raw" / LATEST
    path.write_bytes(path.read_bytes()[:100])
    assert not imports.run(IMPORT_EXPORTS).success
    assert isinstance(imports.tick("daily_run", LAST + timedelta(days=1)), dg.SkipReason)
    [message] = build_alerts(imports.settings).report(imports.instance)
    assert "step landed_source" in message
    assert "Nothing was imported" in message
    imports.deliver()
    assert imports.run(IMPORT_EXPORTS).success
    [message] = build_alerts(imports.settings).report(imports.instance)
    assert "is resolved" in message or "RECOVERED" in message.upper()
