"""Compare the cost of one day of gold after a long history with that after a short one.

It builds two warehouses from one source: one starts on the first day, the other on a later date. It
then runs the same last day in both alternately, each in its own process, and compares how long the gold
steps take. A ratio near 1 means that a day's cost does not depend on the length of the history.

    python -m benchmarks.one_day_of_gold SOURCE FOLDER --short-from 2025-07-31 --day 2026-07-30
"""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path
from statistics import median

from benchmarks.processes import run_graph, seconds_by_step


def main() -> None:
    """Build both warehouses, run them alternately, and print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path, help="folder for the two warehouses")
    parser.add_argument("--short-from", type=date.fromisoformat, required=True)
    parser.add_argument("--day", type=date.fromisoformat, required=True)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    variables = {"long": {}, "short": {"MONSTERA_START_DATE": str(asked.short_from)}}
    log = asked.folder / "last.log"
    for name, of_name in variables.items():
        database = asked.folder / f"{name}.duckdb"
        run_graph(asked.source, database, log, ("--to", asked.day), of_name)
        print(f"{name}: built", flush=True)
    day = ("--from", asked.day, "--to", asked.day)
    seconds: dict[str, list[float]] = {name: [] for name in variables}
    for _ in range(asked.runs):
        for name, of_name in variables.items():
            database = asked.folder / f"{name}.duckdb"
            steps = seconds_by_step(run_graph(asked.source, database, log, day, of_name))
            seconds[name].append(sum(s for step, s in steps.items() if step.startswith("gold_")))
            print(f"{name}: {seconds[name][-1]:.1f} s", flush=True)
    long, short = (median(seconds[name]) for name in variables)
    print(f"gold of {asked.day}: {long:.1f} s / {short:.1f} s = {long / short:.2f}")


if __name__ == "__main__":
    main()
