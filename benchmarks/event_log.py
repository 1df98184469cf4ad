"""Measure what each partition costs in Dagster's event log when one run covers a range of partitions.

    python -m benchmarks.event_log [--partitions N]

It runs an empty asset over one partition and over N partitions, each time in a new home with the
project's dagster.yaml, and prints the milliseconds per additional partition.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import dagster as dg

from monstera_assets.operations.home import open_instance
from monstera_assets.operations.runs import run_range
from monstera_assets.settings import Settings
from monstera_assets.warehouse.windows import DateWindow

FIRST = date(2000, 1, 1)


def seconds_of(partitions: int, folder: Path) -> float:
    """Return the seconds taken by one run over a number of partitions."""

    @dg.asset(
        partitions_def=dg.DailyPartitionsDefinition(FIRST.isoformat()),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def nothing() -> None:
        pass

    defs = dg.Definitions([nothing], jobs=[dg.define_asset_job("job", [nothing])])
    window = DateWindow(FIRST, FIRST + timedelta(days=partitions - 1))
    settings = Settings(source=folder, database=folder / f"{partitions}" / "monstera.duckdb")
    with open_instance(settings) as instance:
        job = defs.resolve_job_def("job")
        before = time.perf_counter()
        report = run_range(job, instance, window)
        assert report.succeeded  # noqa: S101
        return time.perf_counter() - before


def milliseconds_per_partition(partitions: int) -> float:
    """Return the milliseconds taken by each partition after the first."""
    with tempfile.TemporaryDirectory() as folder:
        one = seconds_of(1, Path(folder))
        return 1000 * (seconds_of(partitions, Path(folder)) - one) / (partitions - 1)


def main() -> None:
    """Parse the arguments and print the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--partitions", type=int, default=5000)
    print(f"{milliseconds_per_partition(parser.parse_args().partitions):.2f} ms per partition")


if __name__ == "__main__":
    main()
