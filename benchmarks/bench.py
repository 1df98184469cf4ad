"""What the graph costs, beside what plain DuckDB needs for the same rows in the same run.

    python -m benchmarks.bench [--size S|M|L] [--folder FOLDER] [--runs N] [--memory-limit 6GB]
        [--also short-history seeds event-log sample]

Makes the source of a made-up company of a size, unless it is there, runs the whole graph over it from
scratch, and measures two references: loading the same Parquet files into a table, and copying the
rows of the three state histories into tables of another file. Everything measured runs in a process
of its own. Prints a Markdown table with medians, writes it beside the warehouse with the figures as
JSON, and a digest of all tables, by which two runs can be compared. Exit code 1 if a run fails.

`--also` measures more: the last day's run beside one where only 60 days lie behind it, the seeds from
a cold start, a partition in Dagster's log, and whether a sample of users is as the slow, literal
implementation says.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import duckdb

from benchmarks.event_log import milliseconds_a_partition
from benchmarks.processes import Measured, in_duckdb, measure, monstera
from benchmarks.tables import digest
from monstera_assets.warehouse.tables import Layer

HISTORIES = (
    "silver_user_state_history",
    "silver_user_product_state_history",
    "silver_account_state_history",
)
SHORT_DAYS = 60
FURTHER = ("short-history", "seeds", "event-log", "sample")
_STEP = re.compile(r"^\[ *\d+/\d+\] (\w+) .*?(\d+\.\d) s$", re.MULTILINE)
_REPOSITORY = Path(__file__).parent.parent


@dataclass(frozen=True)
class Size:
    """Users, events and days of a made-up company."""

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
    """A line of the table: medians in seconds and MB, the ratio to the reference and its bound."""

    what: str
    seconds: float
    cpu: float | None = None
    memory: float | None = None
    ratio: float | None = None
    at_most: float | None = None

    @property
    def markdown(self) -> str:
        """As a line of a Markdown table."""
        cells = (
            f"{self.seconds:.2g}" if self.seconds < 1 else f"{self.seconds:.1f}",
            *(
                "" if value is None else format(value, shape)
                for value, shape in (
                    (self.cpu, ",.1f"),
                    (self.memory, ",.0f"),
                    (self.ratio, ",.2f"),
                    (self.at_most, "g"),
                )
            ),
        )
        return f"| {self.what} | {' | '.join(cells)} |"


def of_process(
    what: str,
    measured: Sequence[Measured],
    ratio: float | None = None,
    at_most: float | None = None,
) -> Row:
    """The line of a stage that is a process of its own."""
    wall, cpu = median(m.wall for m in measured), median(m.cpu for m in measured)
    return Row(what, wall, cpu, median(m.memory for m in measured), ratio, at_most)


class Bench:
    """One size, measured several times in turns."""

    def __init__(
        self, name: str, folder: Path, runs: int, memory_limit: str | None, further: Sequence[str]
    ) -> None:
        self._name, self._size, self._runs = name, SIZES[name], runs
        self._memory_limit, self._further = memory_limit, further
        self._folder = (folder / name).absolute()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._log = self._folder / "last.log"
        self._variables = {"MONSTERA_MEMORY_LIMIT": memory_limit} if memory_limit else {}
        self.source = self._folder / "source"
        self.warehouse = self._folder / "warehouse"

    def generate(self) -> None:
        """Make the source, unless it is there."""
        if self.source.exists():
            return
        size = self._size
        made = measure(
            monstera(
                *("generate", "--output", str(self.source), "--seed", "1"),
                *("--users", str(size.users), "--days", str(size.days)),
                *("--events", str(size.events)),
            ),
            self._log,
        )
        print(f"source made in {made.wall:.0f} s, {made.memory:,.0f} MB at most", flush=True)

    def run(self) -> None:
        """Measure in turns and print the table."""
        self.generate()
        loads, graphs, copies, days, short_days, lookups = [], [], [], [], [], []
        short = self._short_history() if "short-history" in self._further else None
        for number in range(self._runs):
            loads.append(self._load_reference())
            graphs.append(self._graph(self.source, self.warehouse))
            copies.append(self._copy_reference())
            if short:
                days.append(self._last_day(self.source, self.warehouse))
                short_days.append(self._last_day(*short))
            lookups.append(self._look_up())
            print(f"run {number + 1} of {self._runs}: {graphs[-1].wall:.0f} s", flush=True)
        rows = [
            *self._of_graph(loads, graphs, copies),
            Row("look-up of one user", median(lookups), at_most=0.05),
            *(self._of_days(days, short_days) if short else ()),
            *(self._seeds() if "seeds" in self._further else ()),
            *(self._event_log() if "event-log" in self._further else ()),
        ]
        self._tell(rows)
        if "sample" in self._further:
            module = [sys.executable, "-m", "benchmarks.sample_check", str(self._database)]
            print(measure(module, self._log).output, end="")

    @property
    def _database(self) -> Path:
        return self.warehouse / "monstera.duckdb"

    def _load_reference(self) -> Measured:
        target = self._fresh("reference.duckdb")
        files = str(self.source / "events" / "*" / "*.parquet").replace("'", "''")
        query = f"CREATE TABLE events AS SELECT * FROM read_parquet('{files}')"  # noqa: S608
        return measure(in_duckdb(str(target), query), self._log)

    def _copy_reference(self) -> Measured:
        target = self._fresh("copy.duckdb")
        database = str(self._database).replace("'", "''")
        copies = [
            f"CREATE TABLE {name} AS SELECT * FROM run.silver.{name}"  # noqa: S608
            for name in HISTORIES
        ]
        attach = f"ATTACH '{database}' AS run (READ_ONLY)"
        return measure(in_duckdb(str(target), attach, *copies), self._log)

    def _graph(self, source: Path, warehouse: Path) -> Measured:
        """The whole graph from scratch, with all checks."""
        shutil.rmtree(warehouse, ignore_errors=True)
        database = warehouse / "monstera.duckdb"
        command = monstera("run", "--source", str(source), "--database", str(database))
        return measure(command, self._log, self._variables)

    def _last_day(self, source: Path, warehouse: Path) -> Measured:
        database = warehouse / "monstera.duckdb"
        with duckdb.connect(str(database), read_only=True) as connection:
            [(last,)] = connection.execute(
                "SELECT max(snapshot_date) FROM silver.silver_user_state_history"
            ).fetchall()
        where = ("--source", str(source), "--database", str(database))
        days = ("--from", str(last), "--to", str(last))
        return measure(monstera("run", *where, *days), self._log, self._variables)

    def _look_up(self) -> float:
        """Seconds to read one user: current state, product states, whole history; the median."""
        with duckdb.connect(str(self._database), read_only=True) as connection:
            users = connection.execute(
                "SELECT user_id FROM silver.silver_user_current_state USING SAMPLE 20 (reservoir, 1)"
            ).fetchall()
            taken = []
            for (user,) in users:
                before = time.perf_counter()
                for table in (
                    "silver_user_current_state",
                    "silver_user_product_states",
                    "silver_user_state_history",
                ):
                    query = f"SELECT * FROM silver.{table} WHERE user_id = ?"  # noqa: S608
                    connection.execute(query, [user]).fetchall()
                taken.append(time.perf_counter() - before)
        return median(taken)

    def _of_graph(
        self, loads: Sequence[Measured], graphs: Sequence[Measured], copies: Sequence[Measured]
    ) -> list[Row]:
        steps = [dict(_STEP.findall(graph.output)) for graph in graphs]
        load, copy = median(m.wall for m in loads), median(m.wall for m in copies)
        graph = median(m.wall for m in graphs)
        bronze = median(float(seconds["load_events"]) for seconds in steps)
        histories = median(sum(float(seconds[h]) for h in HISTORIES) for seconds in steps)
        checks = median(
            sum(float(s) for step, s in seconds.items() if step.startswith("check_"))
            for seconds in steps
        )
        return [
            of_process("reference: load the events into a table", loads),
            Row(
                "load_events, validation and ledger included", bronze, None, None, bronze / load, 2
            ),
            of_process("reference: copy the rows of the three histories", copies),
            Row("the three state histories", histories, None, None, histories / copy, 2),
            Row("all checks", checks),
            of_process("whole graph, all days, checks included", graphs, graph / (load + copy), 6),
        ]

    def _short_history(self) -> tuple[Path, Path]:
        """A source of the last days only, with the same active users, and a warehouse of them."""
        source, warehouse = self._folder / "short_source", self._folder / "short_warehouse"
        if not source.exists():
            source.mkdir()
            for file in self.source.glob("*.parquet"):
                os.link(file, source / file.name)
            for folder in sorted((self.source / "events").iterdir())[-SHORT_DAYS:]:
                (source / "events" / folder.name).mkdir(parents=True)
                for file in folder.iterdir():
                    os.link(file, source / "events" / folder.name / file.name)
        self._graph(source, warehouse)
        return source, warehouse

    def _of_days(self, days: Sequence[Measured], short_days: Sequence[Measured]) -> list[Row]:
        """The last day's run after all days, and where only some lie behind it."""
        ratio = median(m.wall for m in days) / median(m.wall for m in short_days)
        return [
            of_process(f"reference: the last day after {SHORT_DAYS} days of history", short_days),
            of_process(f"the last day after {self._size.days} days", days, ratio, 1.5),
        ]

    def _seeds(self) -> list[Row]:
        runs = [
            self._graph(_REPOSITORY / "seeds", self._folder / "seeds_warehouse")
            for _ in range(self._runs)
        ]
        return [of_process("the seeds, whole graph, cold process", runs)]

    def _event_log(self) -> list[Row]:
        return [
            Row(
                "a partition in Dagster's log",
                median(milliseconds_a_partition(5000) for _ in range(self._runs)) / 1000,
                at_most=0.001,
            )
        ]

    def _tell(self, rows: Sequence[Row]) -> None:
        with duckdb.connect(str(self._database), read_only=True) as connection:
            count = sum(self._count(connection, Layer.SILVER, history) for history in HISTORIES)
            events = self._count(connection, Layer.BRONZE, "bronze_events")
            told = digest(connection)
        size = (self._folder / "copy.duckdb").stat().st_size
        limit = f", memory_limit {self._memory_limit}" if self._memory_limit else ""
        table = "\n".join(
            [
                f"{self._name}: {events:,} events, {count:,} rows of state history, {os.cpu_count()}"
                f" cores, DuckDB {duckdb.__version__}, {platform.machine()}{limit}",
                "",
                "| what | seconds | CPU | peak MB | ratio to reference | at most |",
                "|---|---:|---:|---:|---:|---:|",
                *(row.markdown for row in rows),
                "",
                f"History on disk: {size / count:.1f} bytes a row. All tables: {told}.",
            ]
        )
        (self._folder / "results.md").write_text(table + "\n", encoding="utf-8")
        (self._folder / "results.json").write_text(
            json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8"
        )
        print(f"\n{table}")

    @staticmethod
    def _count(connection: duckdb.DuckDBPyConnection, layer: Layer, table: str) -> int:
        [(rows,)] = connection.execute(f"SELECT count(*) FROM {layer}.{table}").fetchall()  # noqa: S608
        return int(rows)

    def _fresh(self, name: str) -> Path:
        path = self._folder / name
        for old in (path, path.with_name(path.name + ".wal")):
            old.unlink(missing_ok=True)
        return path


def main() -> None:
    """Read the arguments and measure."""
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
