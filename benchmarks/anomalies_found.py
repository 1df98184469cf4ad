"""Measure how soon disturbances in a synthetic company are detected, and the false-positive rate.

    python -m benchmarks.anomalies_found [--users 20000] [--calm-seeds 1 2 3] [--work FOLDER]

It generates one company per disturbance and several undisturbed companies, computes
gold_state_distribution_anomalies with its upstream tables, and prints two Markdown tables. The first
shows the first day on which each disturbance pushes a series out of its range. The second shows each
undisturbed company's false positives by quarter. A false positive is a series that leaves its range
after at least a week within it. Segments with the same people, such as plan and tier, count as one
series. If the work folder contains a company from an earlier run, only its anomalies are computed
again. The exit code is 1 if a disturbance is detected too late, or if there is more than one false
positive per quarter on average.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import duckdb

from benchmarks.tables import compute
from monstera_assets.definitions import build_definitions
from monstera_assets.gold.gold_state_distribution_anomalies import TABLE
from monstera_assets.operations.home import open_instance
from monstera_assets.operations.runs import range_tags
from monstera_assets.prediction.expected_range import DAYS_BEFORE_JUDGED, Span
from monstera_assets.settings import Settings
from monstera_assets.synthetic.anomalies import (
    Anomaly,
    ChurnSpike,
    DoubledLoad,
    SlowDrift,
    TrackingOutage,
)
from monstera_assets.synthetic.company import Company
from monstera_assets.synthetic.writer import generate
from monstera_assets.warehouse.table_asset import asset_key
from monstera_assets.warehouse.windows import DateWindow

END = date(2025, 6, 30)
DAY = date(2025, 5, 14)
EVALUATED_DAYS = 364
DAYS = EVALUATED_DAYS + DAYS_BEFORE_JUDGED[Span.WEEK]
SEED = 1
SERIES = "span, measure, scope, segment_dimension, segment_value, state"
PEOPLE = "metric_date, span, measure, state, members, observed"
COLUMNS = "metric_date, span, measure, segment_value, observed, expected, score, threshold"


@dataclass(frozen=True)
class Planted:
    """A disturbance with its description, the filter for affected rows, and the detection limit."""

    words: str
    anomaly: Anomaly
    first: date
    shows: str
    within_days: int


PLANTED = (
    Planted(
        "half of the events on two days are not recorded",
        TrackingOutage(DAY, DAY + timedelta(days=1), missing_share=0.5),
        DAY,
        "severity = 'high'",
        2,
    ),
    Planted(
        "lapses are 40 times as frequent in Germany for a week",
        ChurnSpike(DAY, DAY + timedelta(days=6), country="DE", factor=40),
        DAY,
        "segment_value = 'DE'",
        2,
    ),
    Planted(
        "the events of a day are written twice",
        DoubledLoad(DAY),
        DAY,
        "measure = 'events_per_active_user'",
        2,
    ),
    Planted(
        "lapses become more frequent everywhere, up to 4 times in 4 weeks",
        SlowDrift(DAY - timedelta(days=13), DAY + timedelta(days=14), factor=4),
        DAY - timedelta(days=13),
        "segment_dimension = 'all' AND measure = 'active_share'",
        28,
    ),
)


def anomalies_of(company: Company, folder: Path) -> duckdb.DuckDBPyConnection:
    """Return a company's database, with its anomalies and their upstream tables."""
    source, database = folder / "source", folder / "anomalies.duckdb"
    selection: dg.AssetSelection = dg.AssetSelection.assets(asset_key(TABLE.name))
    if not database.exists():
        generate(company, source)
        selection = selection.upstream().required_multi_asset_neighbors()
    settings = Settings(source=source, database=database, start_date=company.first)
    with open_instance(settings) as instance:
        days = range_tags(DateWindow(company.first, company.end))
        compute(build_definitions(settings), instance, days, selection)
    return duckdb.connect(str(database), read_only=True)


def detect(planted: Planted, users: int, folder: Path) -> tuple[str, bool]:
    """Return the table row for a disturbance, and whether it was detected in time."""
    company = Company(users, DAYS, SEED, END, anomalies=(planted.anomaly,))
    with anomalies_of(company, folder) as connection:
        found = connection.execute(
            f"SELECT {COLUMNS} FROM {TABLE.qualified_name} WHERE metric_date >= ?"  # noqa: S608
            f" AND {planted.shows} ORDER BY metric_date, abs(score) DESC LIMIT 1",
            [planted.first],
        ).fetchall()
    if not found:
        return f"| {planted.words} | not detected | | | | |", False
    [(day, span, measure, segment, observed, expected, score, threshold)] = found
    number = (day - planted.first).days + 1
    cells = (
        planted.words,
        f"day {number}",
        f"{span}: {measure}, {segment}",
        f"{observed:.3f}",
        f"{expected:.3f}",
        f"{score:+.1f} (threshold {threshold:.1f})",
    )
    return f"| {' | '.join(cells)} |", number <= planted.within_days


def false_positives(seed: int, users: int, folder: Path) -> list[int]:
    """Return the number of false positives in an undisturbed year, by quarter."""
    with anomalies_of(Company(users, DAYS, seed, END), folder) as connection:
        rows = connection.execute(
            f"SELECT (? - metric_date) // 91, count(DISTINCT ({PEOPLE})) FROM (SELECT *, metric_date"  # noqa: S608
            f" - lag(metric_date) OVER (PARTITION BY {SERIES} ORDER BY metric_date) AS gap FROM"
            f" {TABLE.qualified_name}) WHERE coalesce(gap, 99) > 7 AND metric_date > ? - ?"
            " GROUP BY ALL",
            [END, END, EVALUATED_DAYS],
        ).fetchall()
    counts = dict(rows)
    return [counts.get(quarter, 0) for quarter in reversed(range(EVALUATED_DAYS // 91))]


def run(users: int, calm_seeds: Sequence[int], work: Path) -> bool:
    """Print both tables and return whether detection and false positives are within the limits."""
    print("| disturbance | detected on | by | observed | expected | score |")
    print("|---|---|---|---:|---:|---|")
    is_good = True
    for number, planted in enumerate(PLANTED, start=1):
        row, in_time = detect(planted, users, work / f"planted_{users}_{number}")
        is_good &= in_time
        print(row, flush=True)
    print("\n| undisturbed company | false positives by quarter |\n|---|---|")
    total = 0
    for seed in calm_seeds:
        counts = false_positives(seed, users, work / f"calm_{users}_{seed}")
        total += sum(counts)
        print(f"| {users:,} users, seed {seed} | {', '.join(map(str, counts))} |", flush=True)
    return is_good and total <= len(calm_seeds) * EVALUATED_DAYS // 91


def main() -> None:
    """Parse the arguments and run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--calm-seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--work", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        is_good = run(asked.users, asked.calm_seeds, asked.work or Path(folder))
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
