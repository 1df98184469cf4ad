"""What runs cost: seconds per step, rows and bytes per table, and when the disk will be full.

At the end of each run of the whole graph, `record_sizes` adds one event with the sizes of tables and
files to the run's log. Dagster itself records how long each step took. `read_costs` reads only these
records and the sizes of files, so it never waits for a run and never delays one.
"""
# Over 400 lines: the figures of one report: how each is recorded, read and shown.

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from dagster import (
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    JsonMetadataValue,
    RunsFilter,
)
from dagster._core.events import EngineEventData
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table as Grid

from monstera_assets.operations.jobs import DAILY, WHOLE_GRAPH
from monstera_assets.operations.status import is_whole, print_line
from monstera_assets.settings import Settings
from monstera_assets.warehouse.layers import OPERATIONS_SCHEMA, Layer
from monstera_assets.warehouse.windows import DateWindow, window_of_run

if TYPE_CHECKING:
    import duckdb
    from dagster import RunRecord

SIZES = "monstera/sizes"
"""The metadata key for the sizes that a run records."""

DAILY_RUN_DAYS = 7
"""A run over at most this many days counts as a daily run."""

GROWTH_DAYS = 30
"""Growth is measured over at most this many days of data if runs recorded sizes on earlier days."""

FARTHEST_YEARS = 10
"""If the disk lasts longer, no date is given."""

_RUNS_SHOWN, _DAILY_RUNS, _RUNS_READ = 30, 10, 120
_CHECKS = "check_"
_DATABASE, _PUBLISHED, _DAGSTER = "database", "published", "dagster"


class RunCost(BaseModel):
    """The cost of a successful run of the whole graph.

    Attributes:
        at: the time when the run finished.
        days: the number of days that the run computed.
        seconds: the run's duration.
        last_day: the last day in the warehouse after the run, or None if the run recorded no sizes.
        database_bytes: the size of the DuckDB file after the run, or None as above.
    """

    run_id: str
    at: datetime
    days: int
    seconds: float
    last_day: date | None
    database_bytes: int | None


class StepCost(BaseModel):
    """The cost of a table, or of another step such as a load.

    Attributes:
        step: the name of the table or step.
        seconds: the seconds of the step in the last run, or None if the table is one of several
            tables that a load writes.
        check_seconds: the seconds of the table's checks in the last run.
        day_seconds: the mean seconds of the step and its checks in the last daily runs.
        rows: the number of rows, or None if the step writes no table.
        rows_per_day: the rows added per day of data.
        bytes: the size of the table's blocks, or None if the table is too small to measure.
        bytes_per_day: the bytes added per day of data.
    """

    step: str
    seconds: float | None = None
    check_seconds: float | None = None
    day_seconds: float | None = None
    rows: int | None = None
    rows_per_day: float | None = None
    bytes: int | None = None
    bytes_per_day: float | None = None


class DiskCost(BaseModel):
    """The size of the files on the database's disk, and how fast they grow.

    Attributes:
        database_bytes: the size of the DuckDB file.
        published_bytes: the size of the published copy.
        dagster_bytes: the size of Dagster's files, or 0 if they are on another disk.
        bytes_per_day: the bytes added to these files per day of data, or None if it is unknown.
        growth_since: the day of data from which the growth is measured.
        free_bytes: the free space on the disk.
        full_on: the day on which the disk will be full at this rate, or None if it will not be
            full within ten years.
    """

    database_bytes: int
    published_bytes: int
    dagster_bytes: int
    bytes_per_day: float | None
    growth_since: date | None
    free_bytes: int
    full_on: date | None


class Costs(BaseModel):
    """The costs of runs, steps and files. This model also defines the JSON output.

    Attributes:
        day_seconds: the mean duration of the last daily runs, or None if there are none.
        daily_runs: the number of runs in the mean.
        runs: the last successful runs of the whole graph, latest first.
        steps: the steps, those with the largest tables first.
    """

    day_seconds: float | None
    daily_runs: int
    runs: Sequence[RunCost]
    steps: Sequence[StepCost]
    disk: DiskCost


@dataclass(frozen=True)
class Sizes:
    """What a run recorded: the days in the warehouse, and the sizes of files and tables.

    Attributes:
        days: the first and last day in the daily tables.
        files: bytes by `database`, `published` and `dagster`.
        tables: the rows and bytes of each table (see `warehouse.sizes`).
    """

    days: DateWindow
    files: Mapping[str, int]
    tables: Mapping[str, tuple[int, int | None]]

    def metadata(self) -> dict[str, Any]:
        """Return the sizes as JSON."""
        return {
            "first_day": str(self.days.first),
            "last_day": str(self.days.last),
            "files": dict(self.files),
            "tables": {name: list(size) for name, size in self.tables.items()},
        }

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Sizes:
        """Return the sizes from JSON."""
        first, last = (date.fromisoformat(metadata[key]) for key in ("first_day", "last_day"))
        tables = {name: (rows, size) for name, (rows, size) in metadata["tables"].items()}
        return cls(DateWindow(first, last), metadata["files"], tables)


def record_sizes(
    connection: duckdb.DuckDBPyConnection,
    instance: DagsterInstance,
    run: DagsterRun,
    settings: Settings,
) -> None:
    """Record the sizes after a run of the whole graph. Do nothing for other runs."""
    if run.job_name not in (WHOLE_GRAPH, DAILY):
        return
    # `monstera status` reads costs without importing DuckDB.
    from monstera_assets.warehouse.sizes import measure_tables

    measured = measure_tables(connection, list(Layer))
    [(first, last)] = connection.execute(
        f"SELECT min(partition_date), max(partition_date) FROM {OPERATIONS_SCHEMA}.materializations"
    ).fetchall()
    if first is None:
        return
    sizes = Sizes(
        DateWindow(first, last),
        file_sizes(settings, Path(instance.root_directory)),
        {name: (size.rows, size.bytes) for name, size in measured.items()},
    )
    instance.report_engine_event(
        f"Warehouse: {size_text(sizes.files[_DATABASE])}, with data through {last}",
        run,
        EngineEventData({SIZES: JsonMetadataValue(sizes.metadata())}),
    )


def file_sizes(settings: Settings, home: Path) -> dict[str, int]:
    """Return the size in bytes of the database, its copy and Dagster's files on the same disk."""
    disk = settings.database.stat().st_dev
    in_home = [status for status in _files(home) if status.st_dev == disk]
    copy = settings.published
    return {
        _DATABASE: settings.database.stat().st_size,
        _PUBLISHED: copy.stat().st_size if copy.exists() else 0,
        _DAGSTER: sum(status.st_size for status in in_home),
    }


def _files(folder: Path) -> Iterator[os.stat_result]:
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                yield os.lstat(os.path.join(path, name))  # noqa: PTH118  # twice as fast as pathlib
            except FileNotFoundError:  # a log that Dagster deleted in the meantime
                continue


def read_costs(instance: DagsterInstance, settings: Settings, now: datetime) -> Costs:
    """Read the costs. The day on which the disk will be full is counted from `now`."""
    records = list(_whole_runs(instance))
    daily = [record for record in records if _days(record) <= DAILY_RUN_DAYS][:_DAILY_RUNS]
    timed = {record.dagster_run.run_id for record in (*records[:1], *daily)}
    seconds: dict[str, dict[str, float]] = {}
    sizes: dict[str, Sizes] = {}
    for record in records:
        run_id = record.dagster_run.run_id
        seconds[run_id], found = _logged(instance, run_id, with_steps=run_id in timed)
        if found is not None:
            sizes[run_id] = found
    latest, base = _growth(list(sizes.values()))
    runs = [_run_cost(record, sizes.get(record.dagster_run.run_id)) for record in records]
    means = [_run_cost(record, None).seconds for record in daily]
    of_daily_runs = [seconds[record.dagster_run.run_id] for record in daily]
    last = seconds[records[0].dagster_run.run_id] if records else {}
    files = file_sizes(settings, Path(instance.root_directory))
    return Costs(
        day_seconds=fmean(means) if means else None,
        daily_runs=len(daily),
        runs=runs,
        steps=_steps(last, of_daily_runs, latest, base),
        disk=_disk(settings, files, latest, base, now),
    )


def _whole_runs(instance: DagsterInstance) -> Iterator[RunRecord]:
    """Yield the last successful runs of the whole graph."""
    found = 0
    succeeded = RunsFilter(statuses=[DagsterRunStatus.SUCCESS])
    for record in instance.get_run_records(succeeded, limit=_RUNS_READ):
        if is_whole(record) and found < _RUNS_SHOWN:
            found += 1
            yield record


def _days(record: RunRecord) -> int:
    window = window_of_run(record.dagster_run.tags)
    return len(window) if window else 0


def _run_cost(record: RunRecord, sizes: Sizes | None) -> RunCost:
    start, end = record.start_time or 0.0, record.end_time or 0.0
    return RunCost(
        run_id=record.dagster_run.run_id,
        at=datetime.fromtimestamp(end, UTC),
        days=_days(record),
        seconds=end - start,
        last_day=sizes.days.last if sizes else None,
        database_bytes=sizes.files[_DATABASE] if sizes else None,
    )


def _logged(
    instance: DagsterInstance, run_id: str, *, with_steps: bool
) -> tuple[dict[str, float], Sizes | None]:
    """Return the seconds of each step of a run, and the sizes that it recorded."""
    kinds = {DagsterEventType.ENGINE_EVENT}
    if with_steps:
        kinds.add(DagsterEventType.STEP_SUCCESS)
    seconds: dict[str, float] = {}
    sizes = None
    for record in instance.get_records_for_run(run_id, of_type=kinds).records:
        event = record.event_log_entry.get_dagster_event()
        if event.event_type is DagsterEventType.STEP_SUCCESS:
            name = (event.step_key or "").rsplit("__", 1)[-1]
            seconds[name] = event.step_success_data.duration_ms / 1000
        else:
            recorded = event.engine_event_data.metadata.get(SIZES)
            if isinstance(recorded, JsonMetadataValue) and isinstance(recorded.value, Mapping):
                sizes = Sizes.of(recorded.value)
    return seconds, sizes


def _growth(recorded: Sequence[Sizes]) -> tuple[Sizes | None, Sizes | None]:
    """Return the latest sizes and the earlier sizes from which growth is measured.

    The earlier sizes are the oldest ones within `GROWTH_DAYS` before the last day, else the newest
    ones before that. If no sizes of an earlier day were recorded, the warehouse grew from nothing
    since its first day.
    """
    if not recorded:
        return None, None
    latest = recorded[0]
    earlier = [sizes for sizes in recorded if sizes.days.last < latest.days.last]
    oldest = latest.days.last - timedelta(days=GROWTH_DAYS)
    recent = [sizes for sizes in earlier if sizes.days.last >= oldest]
    if recent:
        return latest, min(recent, key=_last_day)
    return latest, max(earlier, key=_last_day, default=None)


def _last_day(sizes: Sizes) -> date:
    return sizes.days.last


def _days_between(latest: Sizes, base: Sizes | None) -> int:
    return (latest.days.last - base.days.last).days if base else len(latest.days)


def _steps(
    last: Mapping[str, float],
    of_daily_runs: Sequence[Mapping[str, float]],
    latest: Sizes | None,
    base: Sizes | None,
) -> list[StepCost]:
    tables = latest.tables if latest else {}
    before = base.tables if base else {}
    names = {name for run in (last, *of_daily_runs) for name in run}
    steps = []
    for step in {*tables, *(name for name in names if not name.startswith(_CHECKS))}:
        checks = f"{_CHECKS}{step}"
        per_day = [
            run.get(step, 0) + run.get(checks, 0)
            for run in of_daily_runs
            if step in run or checks in run
        ]
        rows, size = tables.get(step, (None, None))
        rows_before, size_before = before.get(step, (0, None))
        days = _days_between(latest, base) if latest else 1
        steps.append(
            StepCost(
                step=step,
                seconds=last.get(step),
                check_seconds=last.get(checks),
                day_seconds=fmean(per_day) if per_day else None,
                rows=rows,
                rows_per_day=None if rows is None else (rows - rows_before) / days,
                bytes=size,
                bytes_per_day=None if size is None else (size - (size_before or 0)) / days,
            )
        )
    return sorted(steps, key=lambda step: (-(step.bytes or 0), -(step.seconds or 0), step.step))


def _disk(
    settings: Settings,
    files: Mapping[str, int],
    latest: Sizes | None,
    base: Sizes | None,
    now: datetime,
) -> DiskCost:
    free = shutil.disk_usage(settings.database.absolute().parent).free
    growth = since = full_on = None
    if latest is not None:
        before = sum(base.files.values()) if base else 0
        growth = (sum(latest.files.values()) - before) / _days_between(latest, base)
        since = base.days.last if base else latest.days.first
        if growth > 0 and free / growth <= FARTHEST_YEARS * 365:
            full_on = (now + timedelta(days=free / growth)).date()
    return DiskCost(
        database_bytes=files[_DATABASE],
        published_bytes=files[_PUBLISHED],
        dagster_bytes=files[_DAGSTER],
        bytes_per_day=growth,
        growth_since=since,
        free_bytes=free,
        full_on=full_on,
    )


def size_text(size: float | None) -> str:
    """Format a number of bytes, such as 17.6 MB."""
    if size is None:
        return "-"
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if abs(size) >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size / 1e3:,.1f} kB"


def seconds_text(seconds: float | None) -> str:
    """Format a duration, or a dash if it is unknown."""
    return "-" if seconds is None else f"{seconds:,.2f}"


def rows_text(rows: float | None) -> str:
    """Format a number of rows, with one decimal if it is a small mean."""
    if rows is None:
        return "-"
    return f"{rows:,.1f}" if isinstance(rows, float) and abs(rows) < 10 else f"{rows:,.0f}"


def summary(costs: Costs) -> Iterator[str]:
    """Yield the totals as sentences."""
    if not costs.runs:
        yield "No run of the whole graph has succeeded yet."
    else:
        last = costs.runs[0]
        day = "unknown, because no run was over at most 7 days"
        if costs.day_seconds is not None:
            runs = "1 daily run" if costs.daily_runs == 1 else f"{costs.daily_runs} daily runs"
            day = f"{costs.day_seconds:,.1f} s (mean of {runs})"
        days = f"{last.days:,} day{'' if last.days == 1 else 's'}"
        yield (
            f"Seconds per day: {day}; last run: {days} in {last.seconds:,.1f} s,"
            f" {last.at:%Y-%m-%d %H:%M} UTC"
        )
    disk = costs.disk
    growth = "growth unknown, because no run has recorded sizes"
    if disk.bytes_per_day is not None:
        growth = f"growth {size_text(disk.bytes_per_day)} per day since {disk.growth_since}"
    yield (
        f"Files: database {size_text(disk.database_bytes)}, published copy"
        f" {size_text(disk.published_bytes)}, Dagster's state {size_text(disk.dagster_bytes)}; {growth}"
    )
    yield f"Disk: {size_text(disk.free_bytes)} free, {full_text(disk)}"


def full_text(disk: DiskCost) -> str:
    """Describe when the disk will be full."""
    if disk.bytes_per_day is None:
        return "growth unknown"
    if disk.bytes_per_day <= 0:
        return "not full at this rate"
    if disk.full_on is None:
        return f"not full within {FARTHEST_YEARS} years at this rate"
    return f"full on {disk.full_on} at this rate"


def print_costs(console: Console, costs: Costs) -> None:
    """Print the totals, and one line per step."""
    for line in summary(costs):
        print_line(console, line)
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    grid.add_column("step", no_wrap=True)
    for heading in ("seconds", "checks", "s/day", "rows", "rows/day", "bytes", "bytes/day"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for step in costs.steps:
        grid.add_row(step.step, *cells(step))
    if costs.steps:
        console.print(grid)


def cells(step: StepCost) -> list[str]:
    """Return the text of each figure of a step."""
    return [
        *map(seconds_text, (step.seconds, step.check_seconds, step.day_seconds)),
        *map(rows_text, (step.rows, step.rows_per_day)),
        *map(size_text, (step.bytes, step.bytes_per_day)),
    ]
