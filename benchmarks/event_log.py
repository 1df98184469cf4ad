"""What one partition of an asset costs in Dagster's log, when a range of them is one run.

    python -m benchmarks.event_log [--partitions N]

Runs an asset that does nothing over one partition and over N of them, each in a new home with the
project's own dagster.yaml, and prints the milliseconds that each further partition takes.
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
    """The seconds of one run over so many partitions."""

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
        assert report.succeeded  # noqa: S101  # a run that failed measures nothing
        return time.perf_counter() - before


def milliseconds_a_partition(partitions: int) -> float:
    """What each partition after the first takes."""
    with tempfile.TemporaryDirectory() as folder:
        one = seconds_of(1, Path(folder))
        return 1000 * (seconds_of(partitions, Path(folder)) - one) / (partitions - 1)


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--partitions", type=int, default=5000)
    print(f"{milliseconds_a_partition(parser.parse_args().partitions):.2f} ms a partition")


if __name__ == "__main__":
    main()
