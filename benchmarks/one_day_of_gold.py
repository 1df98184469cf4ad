"""What a day's gold costs with a long history behind it, as a ratio to a short one.

Builds two warehouses of one source, the one from its first day, the other from a later date, then runs
the same last day of both in turns, each in a process of its own, and compares the seconds that the
steps of gold take. A ratio near 1 means that a day costs the same however long the history is.

    python benchmarks/one_day_of_gold.py SOURCE FOLDER --short-from 2025-07-31 --day 2026-07-30
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path
from statistics import median

_GOLD_STEP = re.compile(r"^\[ *\d+/\d+\] gold_\w+ .* (\d+\.\d) s$", re.MULTILINE)


def main() -> None:
    """Build, run in turns, and print medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path, help="where the two warehouses are made")
    parser.add_argument("--short-from", type=date.fromisoformat, required=True)
    parser.add_argument("--day", type=date.fromisoformat, required=True)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    starts = {"long": None, "short": asked.short_from}
    for name, start in starts.items():
        _run(asked.source, asked.folder / f"{name}.duckdb", start, "--to", str(asked.day))
        print(f"{name}: built", flush=True)
    seconds: dict[str, list[float]] = {name: [] for name in starts}
    for _ in range(asked.runs):
        for name, start in starts.items():
            output = _run(
                asked.source,
                asked.folder / f"{name}.duckdb",
                start,
                *("--from", str(asked.day), "--to", str(asked.day)),
            )
            seconds[name].append(sum(map(float, _GOLD_STEP.findall(output))))
            print(f"{name}: {seconds[name][-1]:.1f} s", flush=True)
    long, short = (median(seconds[name]) for name in starts)
    print(f"gold of {asked.day}: {long:.1f} s / {short:.1f} s = {long / short:.2f}")


def _run(source: Path, database: Path, start: date | None, *options: str) -> str:
    """The output of `monstera run`; ends the program if the run fails."""
    variables = {"MONSTERA_START_DATE": str(start)} if start else {}
    command = ["run", "--source", str(source), "--database", str(database), *options]
    done = subprocess.run(
        [sys.executable, "-c", "from monstera_assets.cli import main; main()", *command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **variables},
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return done.stdout


if __name__ == "__main__":
    main()
