"""Compare small runs and quick commands with the cost of Dagster itself.

    python -m benchmarks.floor [--runs N] [--folder FOLDER] [--against CHECKOUT] [--large SOURCE]

The reference ("floor") is Dagster running `floor_graph.json` with empty functions and the project's
dagster.yaml. It has the assets, partitions, dependencies and checks of the graph before its steps were
merged, so that the gain from merging is measured. `monstera run` on the seeds and quick commands run
alternately with it, each in its own process. The command prints the median CPU seconds (user and
system) of whole processes and their ratios.

`--against` also measures the commands of another checkout, which has its own virtual environment.
`--large` also measures the last day of a large source, such as one of `benchmarks.bench`, and subtracts
the last day of the seeds.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from statistics import median

import duckdb

from benchmarks.processes import measure

_REPOSITORY = Path(__file__).parent.parent
FIRST, LAST = "2024-07-01", "2025-06-30"
"""First and last day of the seeds."""

ALL_DAYS, LAST_DAY, IMPORT = "floor, all days", "floor, last day", "import dagster"
LARGE = "last day of the large source - last day of the seeds"
_RATIOS = {
    "run, all days, caches warm": (ALL_DAYS, 2.2),
    "run, all days, caches empty": (ALL_DAYS, 3),
    "run, last day, caches warm": (LAST_DAY, 2.6),
    "status": (IMPORT, 2.4),
    "--help": (IMPORT, 0.5),
    "a wrong argument": (IMPORT, 0.5),
}
"""Reference of each measurement, and the maximum ratio to it."""


class Checkout:
    """A checkout of the project with its virtual environment and warehouses."""

    def __init__(self, path: Path, python: Path, folder: Path) -> None:
        self._path, self._python, self._folder = path.absolute(), python.absolute(), folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.cpu: dict[str, list[float]] = {}

    def measure(self, what: str, *command: str, cache: str = "warm", exit_code: int = 0) -> None:
        """Run a command of the virtual environment and record its CPU seconds."""
        variables = {
            "PYTHONPATH": str(self._path),
            "XDG_CACHE_HOME": str(self._folder / cache),
            "DAGSTER_HOME": "",
        }
        program = str(self._python.with_name(command[0]))
        log = self._folder / "last.log"
        measured = measure([program, *command[1:]], log, variables, exit_code)
        self.cpu.setdefault(what, []).append(measured.cpu)

    def floor(self) -> None:
        """Measure the floor of all days and then, in the same home, of the last day."""
        home = self._emptied("floor")
        shutil.copy(self._path / "dagster.yaml", home / "dagster.yaml")
        for what, first in ((ALL_DAYS, FIRST), (LAST_DAY, LAST)):
            module = ("python", "-m", "benchmarks.floor_graph")
            self.measure(what, *module, str(home), first, LAST)

    def commands(self) -> None:
        """Measure the runs on the seeds and the quick commands."""
        seeds, database = str(_REPOSITORY / "seeds"), self._emptied("empty") / "monstera.duckdb"
        where = ("--source", seeds, "--database", str(database))
        self._emptied("no_cache")
        self.measure("run, all days, caches empty", "monstera", "run", *where, cache="no_cache")
        database = self._emptied("seeds") / "monstera.duckdb"
        where = ("--source", seeds, "--database", str(database))
        self.measure("run, all days, caches warm", "monstera", "run", *where)
        days = ("--from", LAST, "--to", LAST)
        self.measure("run, last day, caches warm", "monstera", "run", *where, *days)
        self.measure("status", "monstera", "status", *where)
        self.measure("--help", "monstera", "--help")
        self.measure("a wrong argument", "monstera", "run", "--no-such-option", exit_code=2)
        self.measure(IMPORT, "python", "-c", "import dagster")

    def large(self, source: Path) -> None:
        """Measure the last day of a source; compute all days first if the warehouse is missing."""
        database = self._folder.with_name(f"{self._folder.name}_large") / "monstera.duckdb"
        where = ("--source", str(source.absolute()), "--database", str(database))
        if not database.exists():
            database.parent.mkdir(parents=True)
            self.measure("large, all days", "monstera", "run", *where)
        with duckdb.connect(str(database), read_only=True) as connection:
            query = "SELECT max(snapshot_date) FROM silver.silver_user_state_history"
            [(day,)] = connection.execute(query).fetchall()
        self.measure("large", "monstera", "run", *where, "--from", str(day), "--to", str(day))
        seconds = self.cpu["large"][-1] - self.cpu["run, last day, caches warm"][-1]
        self.cpu.setdefault(LARGE, []).append(seconds)

    def _emptied(self, name: str) -> Path:
        folder = self._folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder


def of_table(checkout: Checkout, against: Checkout | None) -> list[str]:
    """Return a Markdown table of medians and of their ratios to the reference and another checkout."""
    lines = [
        "| what | CPU s | ratio to reference | at most | other checkout, CPU s | ratio to other |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for what, seconds in checkout.cpu.items():
        here = median(seconds)
        reference, at_most = _RATIOS.get(what, (None, None))
        cells = [f"{here:.2f}", "", "", "", ""]
        if reference:
            cells[1:3] = f"{here / median(checkout.cpu[reference]):.2f}", f"{at_most}"
        if against and what in against.cpu:
            there = median(against.cpu[what])
            cells[3:5] = f"{there:.2f}", f"{here / there:.2f}"
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Parse the arguments, measure alternately and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("data/floor"))
    parser.add_argument("--against", type=Path)
    parser.add_argument("--large", type=Path)
    asked = parser.parse_args()
    folder = asked.folder.absolute()
    here = Checkout(_REPOSITORY, Path(sys.executable), folder / "here")
    there = asked.against and Checkout(
        asked.against, asked.against / ".venv/bin/python", folder / "there"
    )
    checkouts = [checkout for checkout in (here, there) if checkout]
    for checkout in checkouts:
        checkout.commands()  # fills all caches, including bytecode
        checkout.cpu.clear()
    for number in range(asked.runs):
        here.floor()
        for checkout in checkouts:
            checkout.commands()
            if asked.large:
                checkout.large(asked.large)
        print(f"round {number + 1} of {asked.runs}", flush=True)
    print("\n".join(of_table(here, there)))


if __name__ == "__main__":
    main()
