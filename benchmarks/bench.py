"""What the graph costs, beside what plain DuckDB needs for the same rows in the same run.

    python benchmarks/bench.py [--size S|M|L] [--folder FOLDER] [--runs N] [--memory-limit 6GB]

Makes the source of a made-up company of a size, unless it is there, runs the whole graph over it from
scratch, and measures two references: loading the same Parquet files into a table, and copying the
rows of the three state histories into tables of another file. Everything measured runs in a process
of its own. Prints a Markdown table with medians; a ratio compares a stage with its reference, which
is measured just before and after it. Exit code 1 if a run fails.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import duckdb

HISTORIES = (
    "silver_user_state_history",
    "silver_user_product_state_history",
    "silver_account_state_history",
)
_STEP = re.compile(r"^\[ *\d+/\d+\] (\w+) .*?(\d+\.\d) s$", re.MULTILINE)


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
class Measured:
    """A process that has ended: seconds of wall and CPU time, peak memory in MB, what it printed."""

    wall: float
    cpu: float
    memory: float
    output: str


def measure(
    command: Sequence[str], log: Path, variables: Mapping[str, str] | None = None
) -> Measured:
    """Run a command in a process of its own; ends the program if it fails."""
    before = time.perf_counter()
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **(variables or {})}
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - before
    output = log.read_text(errors="replace")
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{output[-3000:]}")
    return Measured(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, output)


def monstera(*arguments: str) -> list[str]:
    """The command line of this environment."""
    return [sys.executable, "-c", "from monstera_assets.cli import main; main()", *arguments]


def in_duckdb(*statements: str) -> list[str]:
    """A process that runs statements in a DuckDB of its own."""
    program = (
        "import sys, duckdb\nc = duckdb.connect(sys.argv[1])\nfor s in sys.argv[2:]: c.execute(s)"
    )
    return [sys.executable, "-c", program, *statements]


class Bench:
    """One size, measured several times in turns."""

    def __init__(self, name: str, folder: Path, runs: int, memory_limit: str | None) -> None:
        self._name, self._size, self._runs = name, SIZES[name], runs
        self._folder = folder / name
        self._folder.mkdir(parents=True, exist_ok=True)
        self._log = self._folder / "last.log"
        self._variables = {"MONSTERA_MEMORY_LIMIT": memory_limit} if memory_limit else {}

    @property
    def source(self) -> Path:
        """Where the source is."""
        return self._folder / "source"

    @property
    def database(self) -> Path:
        """The warehouse of the last run."""
        return self._folder / "warehouse" / "monstera.duckdb"

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

    def load_reference(self) -> Measured:
        """Plain DuckDB loads the events."""
        target = self._fresh("reference.duckdb")
        files = str(self.source / "events" / "*" / "*.parquet").replace("'", "''")
        query = f"CREATE TABLE events AS SELECT * FROM read_parquet('{files}')"  # noqa: S608
        return measure(in_duckdb(str(target), query), self._log)

    def whole_graph(self) -> Measured:
        """The whole graph from scratch, with all checks."""
        shutil.rmtree(self.database.parent, ignore_errors=True)
        command = monstera("run", "--source", str(self.source), "--database", str(self.database))
        return measure(command, self._log, self._variables)

    def copy_reference(self) -> Measured:
        """Plain DuckDB copies the rows of the histories."""
        target = self._fresh("copy.duckdb")
        database = str(self.database).replace("'", "''")
        copies = [
            f"CREATE TABLE {name} AS SELECT * FROM run.silver.{name}"  # noqa: S608
            for name in HISTORIES
        ]
        attach = f"ATTACH '{database}' AS run (READ_ONLY)"
        return measure(in_duckdb(str(target), attach, *copies), self._log)

    def one_day(self) -> Measured:
        """The last day again."""
        with duckdb.connect(str(self.database), read_only=True) as connection:
            [(last,)] = connection.execute(
                "SELECT max(snapshot_date) FROM silver.silver_user_state_history"
            ).fetchall()
        days = ("--from", str(last), "--to", str(last))
        where = ("--source", str(self.source), "--database", str(self.database))
        return measure(monstera("run", *where, *days), self._log, self._variables)

    def look_up(self) -> float:
        """Milliseconds to read one user: current state, product states, whole history; the median."""
        with duckdb.connect(str(self.database), read_only=True) as connection:
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
                taken.append(1000 * (time.perf_counter() - before))
        return median(taken)

    def run(self) -> None:
        """Measure in turns and print the table."""
        self.generate()
        loads, graphs, copies, days, lookups = [], [], [], [], []
        for number in range(self._runs):
            loads.append(self.load_reference())
            graphs.append(self.whole_graph())
            copies.append(self.copy_reference())
            days.append(self.one_day())
            lookups.append(self.look_up())
            print(f"run {number + 1} of {self._runs}: {graphs[-1].wall:.0f} s", flush=True)
        self._print(loads, graphs, copies, days, lookups)

    def _print(
        self,
        loads: Sequence[Measured],
        graphs: Sequence[Measured],
        copies: Sequence[Measured],
        days: Sequence[Measured],
        lookups: Sequence[float],
    ) -> None:
        steps = [dict(_STEP.findall(graph.output)) for graph in graphs]
        load = median(m.wall for m in loads)
        copy = median(m.wall for m in copies)
        graph = median(m.wall for m in graphs)
        bronze = median(float(seconds["load_events"]) for seconds in steps)
        histories = median(sum(float(seconds[h]) for h in HISTORIES) for seconds in steps)
        checks = median(
            sum(float(s) for step, s in seconds.items() if step.startswith("check_"))
            for seconds in steps
        )
        with duckdb.connect(str(self.database), read_only=True) as connection:
            rows = sum(
                int(connection.execute(f"SELECT count(*) FROM silver.{h}").fetchall()[0][0])  # noqa: S608
                for h in HISTORIES
            )
            [(events,)] = connection.execute("SELECT count(*) FROM bronze.bronze_events").fetchall()
        size = (self._folder / "copy.duckdb").stat().st_size
        print(f"\n{self._name}: {events:,} events, {rows:,} rows of state history,", end=" ")
        print(f"{os.cpu_count()} cores, DuckDB {duckdb.__version__}, {platform.machine()}\n")
        print("| what | seconds | CPU | peak MB | ratio to reference |")
        print("|---|---:|---:|---:|---:|")
        self._row("reference: load the events into a table", loads)
        print(
            f"| load_events, validation and ledger included | {bronze:.1f} | | | {bronze / load:.1f} |"
        )
        self._row("reference: copy the rows of the three histories", copies)
        print(f"| the three state histories | {histories:.1f} | | | {histories / copy:.1f} |")
        print(f"| all checks | {checks:.1f} | | | |")
        self._row("whole graph, all days, checks included", graphs, graph / (load + copy))
        self._row("the last day again, checks included", days)
        print(f"| look-up of one user | {median(lookups) / 1000:.3f} | | | |")
        print(f"\nHistory on disk: {size / rows:.1f} bytes a row.")

    @staticmethod
    def _row(what: str, measured: Sequence[Measured], ratio: float | None = None) -> None:
        wall, cpu = median(m.wall for m in measured), median(m.cpu for m in measured)
        memory = median(m.memory for m in measured)
        shown = "" if ratio is None else f"{ratio:.1f}"
        print(f"| {what} | {wall:.1f} | {cpu:.1f} | {memory:,.0f} | {shown} |")

    def _fresh(self, name: str) -> Path:
        path = self._folder / name
        for old in (path, path.with_name(path.name + ".wal")):
            old.unlink(missing_ok=True)
        return path


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=SIZES, default="S")
    parser.add_argument("--folder", type=Path, default=Path("data/bench"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--memory-limit")
    asked = parser.parse_args()
    Bench(asked.size, asked.folder, asked.runs, asked.memory_limit).run()


if __name__ == "__main__":
    main()
