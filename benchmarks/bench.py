"""Compare the graph's cost with that of plain DuckDB for the same rows.

    python -m benchmarks.bench [--size S|M|L] [--folder FOLDER] [--runs N] [--memory-limit 6GB]
        [--also short-history seeds event-log sample]

It generates a synthetic company's source if there is none yet, runs the whole graph from scratch, and
measures two references: loading the same Parquet files into a table, and copying the rows of the three
state histories to another database. Each measurement runs in its own process. The command prints a
Markdown table of medians and a digest of all tables, by which two runs can be compared. It saves the
table and, as JSON, the figures in the folder. The exit code is 1 if a run fails.

`--also` adds measurements: the last day after the whole history and after 60 days, the seeds from a
cold start, and a partition in Dagster's event log. It can also compare sampled users with the test
oracle.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import duckdb

from benchmarks.event_log import milliseconds_per_partition
from benchmarks.processes import Measured, in_duckdb, measure, monstera, run_graph, seconds_by_step
from benchmarks.tables import digest

HISTORIES = (
    "silver_user_state_history",
    "silver_user_product_state_history",
    "silver_account_state_history",
)
OF_ONE_USER = (
    "silver_user_current_state",
    "silver_user_product_states",
    "silver_user_state_history",
)
SHORT_DAYS = 60
FURTHER = ("short-history", "seeds", "event-log", "sample")
_REPOSITORY = Path(__file__).parent.parent


@dataclass(frozen=True)
class Size:
    """Users, events and days of a synthetic company."""

    users: int
    events: int
    days: int = 365


SIZES = {
    "S": Size(10_000, 1_000_000),
    "M": Size(100_000, 20_000_000),
    "L": Size(1_000_000, 100_000_000),
}


@dataclass(frozen=True)
class Row:
    """A table row: medians in seconds and MB, the ratio to the reference, and the maximum ratio."""

    what: str
    seconds: float
    cpu: float | None = None
    memory: float | None = None
    ratio: float | None = None
    at_most: float | None = None

    @property
    def markdown(self) -> str:
        """The row as Markdown."""
        seconds = f"{self.seconds:.2g}" if self.seconds < 1 else f"{self.seconds:.1f}"
        others = (
            (self.cpu, ",.1f"),
            (self.memory, ",.0f"),
            (self.ratio, ",.2f"),
            (self.at_most, "g"),
        )
        cells = ("" if value is None else format(value, shape) for value, shape in others)
        return f"| {self.what} | {seconds} | {' | '.join(cells)} |"


def of_processes(
    what: str,
    measured: Sequence[Measured],
    ratio: float | None = None,
    at_most: float | None = None,
) -> Row:
    """Create the row for a stage that ran in its own process."""
    wall, cpu = median(m.wall for m in measured), median(m.cpu for m in measured)
    return Row(what, wall, cpu, median(m.memory for m in measured), ratio, at_most)


class Bench:
    """Measure all stages for one size, alternately and several times."""

    def __init__(
        self, name: str, folder: Path, runs: int, memory_limit: str | None, further: Sequence[str]
    ) -> None:
        self._name, self._size, self._runs = name, SIZES[name], runs
        self._memory_limit, self._further = memory_limit, further
        self._folder = (folder / name).absolute()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._log = self._folder / "last.log"
        self._variables = {"MONSTERA_MEMORY_LIMIT": memory_limit} if memory_limit else {}
        self._source = self._folder / "source"
        self._database = self._folder / "warehouse" / "monstera.duckdb"

    def generate(self) -> None:
        """Generate the source if it does not exist."""
        if self._source.exists():
            return
        options = {"output": self._source, "seed": 1, **asdict(self._size)}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        made = measure(monstera("generate", *words), self._log)
        print(f"source generated in {made.wall:.0f} s, peak {made.memory:,.0f} MB", flush=True)

    def run(self) -> None:
        """Measure all stages alternately and print the table."""
        self.generate()
        stages: dict[str, Callable[[], Measured]] = {
            "load": self._load_reference,
            "graph": lambda: self._graph(self._source, self._database),
            "copy": self._copy_reference,
        }
        if "short-history" in self._further:
            short = self._short_history()
            stages["day"] = lambda: self._last_day(self._source, self._database)
            stages["short day"] = lambda: self._last_day(*short)
        measured: dict[str, list[Measured]] = {stage: [] for stage in stages}
        lookups = []
        for number in range(self._runs):
            for stage, of_stage in stages.items():
                measured[stage].append(of_stage())
            lookups.append(self._look_up())
            seconds = measured["graph"][-1].wall
            print(f"run {number + 1} of {self._runs}: {seconds:.0f} s", flush=True)
        rows = [
            *self._of_graph(measured["load"], measured["graph"], measured["copy"]),
            Row("lookup of one user", median(lookups), at_most=0.05),
        ]
        if "short-history" in self._further:
            rows += self._of_days(measured["day"], measured["short day"])
        if "seeds" in self._further:
            database = self._folder / "seeds_warehouse" / "monstera.duckdb"
            seeds = [self._graph(_REPOSITORY / "seeds", database) for _ in range(self._runs)]
            rows.append(of_processes("the seeds, whole graph, cold process", seeds))
        if "event-log" in self._further:
            taken = median(milliseconds_per_partition(5000) for _ in range(self._runs)) / 1000
            rows.append(Row("a partition in Dagster's log", taken, at_most=0.001))
        self._write(rows)
        if "sample" in self._further:
            module = [sys.executable, "-m", "benchmarks.sample_check", str(self._database)]
            print(measure(module, self._log).output, end="")

    def _load_reference(self) -> Measured:
        files = str(self._source / "events" / "*" / "*.parquet").replace("'", "''")
        query = f"CREATE TABLE events AS SELECT * FROM read_parquet('{files}')"  # noqa: S608
        return measure(in_duckdb(self._fresh("reference.duckdb"), query), self._log)

    def _copy_reference(self) -> Measured:
        database = str(self._database).replace("'", "''")
        copies = [
            f"CREATE TABLE {name} AS SELECT * FROM run.silver.{name}"  # noqa: S608
            for name in HISTORIES
        ]
        attach = f"ATTACH '{database}' AS run (READ_ONLY)"
        return measure(in_duckdb(self._fresh("copy.duckdb"), attach, *copies), self._log)

    def _graph(self, source: Path, database: Path) -> Measured:
        """Run the whole graph from scratch, with all checks."""
        shutil.rmtree(database.parent, ignore_errors=True)
        return run_graph(source, database, self._log, (), self._variables)

    def _last_day(self, source: Path, database: Path) -> Measured:
        query = "SELECT max(snapshot_date) FROM silver.silver_user_state_history"
        with duckdb.connect(str(database), read_only=True) as connection:
            [(last,)] = connection.execute(query).fetchall()
        days = ("--from", last, "--to", last)
        return run_graph(source, database, self._log, days, self._variables)

    def _look_up(self) -> float:
        """Return the median seconds to read a user's current state, product states and history."""
        with duckdb.connect(str(self._database), read_only=True) as connection:
            users = connection.execute(
                "SELECT user_id FROM silver.silver_user_current_state USING SAMPLE 20 (reservoir, 1)"
            ).fetchall()
            taken = []
            for (user,) in users:
                before = time.perf_counter()
                for table in OF_ONE_USER:
                    query = f"SELECT * FROM silver.{table} WHERE user_id = ?"  # noqa: S608
                    connection.execute(query, [user]).fetchall()
                taken.append(time.perf_counter() - before)
        return median(taken)

    def _of_graph(
        self, loads: Sequence[Measured], graphs: Sequence[Measured], copies: Sequence[Measured]
    ) -> list[Row]:
        steps = [seconds_by_step(graph) for graph in graphs]
        load, copy, graph = (median(m.wall for m in each) for each in (loads, copies, graphs))
        bronze = median(seconds["load_events"] for seconds in steps)
        histories = median(sum(seconds[h] for h in HISTORIES) for seconds in steps)
        checks = median(
            sum(taken for step, taken in seconds.items() if step.startswith("check_"))
            for seconds in steps
        )
        gold = median(
            sum(taken for step, taken in seconds.items() if step.startswith("gold_"))
            for seconds in steps
        )
        site = median(seconds["static_site"] for seconds in steps)
        load_events = "load_events, validation and ledger included"
        return [
            of_processes("reference: load the events into a table", loads),
            Row(load_events, bronze, ratio=bronze / load, at_most=2),
            of_processes("reference: copy the rows of the three histories", copies),
            Row("the three state histories", histories, ratio=histories / copy, at_most=2),
            Row("all checks", checks),
            Row("reference: the gold tables without checks", gold),
            Row(
                "dashboards, pages of accounts and people included",
                site,
                None,
                None,
                site / gold,
                0.1,
            ),
            of_processes(
                "whole graph, all days, checks included", graphs, graph / (load + copy), 6
            ),
        ]

    def _short_history(self) -> tuple[Path, Path]:
        """Create a source with all users but only the last days, and its warehouse."""
        source = self._folder / "short_source"
        database = self._folder / "short_warehouse" / "monstera.duckdb"
        if not source.exists():
            days = sorted((self._source / "events").iterdir())[-SHORT_DAYS:]
            for folder in days:
                shutil.copytree(folder, source / "events" / folder.name, copy_function=os.link)
            for file in self._source.glob("*.parquet"):
                os.link(file, source / file.name)
        self._graph(source, database)
        return source, database

    def _of_days(self, days: Sequence[Measured], short_days: Sequence[Measured]) -> list[Row]:
        """Return the rows for the last day, run after the whole history and after a short one."""
        ratio = median(m.wall for m in days) / median(m.wall for m in short_days)
        return [
            of_processes(f"reference: the last day after {SHORT_DAYS} days of history", short_days),
            of_processes(f"the last day after {self._size.days} days", days, ratio, 1.5),
        ]

    def _write(self, rows: Sequence[Row]) -> None:
        """Print and save the table, and save the figures as JSON."""
        tables = ("bronze.bronze_events", *(f"silver.{history}" for history in HISTORIES))
        with duckdb.connect(str(self._database), read_only=True) as connection:
            events, *histories = (connection.table(table).shape[0] for table in tables)
            of_tables = digest(connection)
        size = (self._folder / "copy.duckdb").stat().st_size
        limit = f", memory_limit {self._memory_limit}" if self._memory_limit else ""
        lines = [
            f"{self._name}: {events:,} events, {sum(histories):,} rows of state history,"
            f" {os.cpu_count()} cores, DuckDB {duckdb.__version__}, {platform.machine()}{limit}",
            "",
            "| what | seconds | CPU | peak MB | ratio to reference | at most |",
            "|---|---:|---:|---:|---:|---:|",
            *(row.markdown for row in rows),
            "",
            f"History on disk: {size / sum(histories):.1f} bytes per row. All tables: {of_tables}.",
        ]
        table = "\n".join(lines)
        (self._folder / "results.md").write_text(table + "\n", encoding="utf-8")
        figures = json.dumps([asdict(row) for row in rows], indent=1)
        (self._folder / "results.json").write_text(figures + "\n", encoding="utf-8")
        print(f"\n{table}")

    def _fresh(self, name: str) -> str:
        path = self._folder / name
        for old in (path, path.with_name(path.name + ".wal")):
            old.unlink(missing_ok=True)
        return str(path)


def main() -> None:
    """Parse the arguments and run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="S")
    parser.add_argument("--folder", type=Path, default=Path("data/bench"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--memory-limit")
    parser.add_argument("--also", nargs="*", choices=FURTHER, default=[])
    asked = parser.parse_args()
    Bench(asked.size, asked.folder, asked.runs, asked.memory_limit, asked.also).run()


if __name__ == "__main__":
    main()
