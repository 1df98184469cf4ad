"""Whether disturbances of a made-up company are found, and how soon; and what is found without any.

    python -m benchmarks.anomalies_found [--users 20000] [--calm-seeds 1 2 3] [--work FOLDER]

Generates a company once for each disturbance, and undisturbed ones, computes
gold_state_distribution_anomalies and all that it is made of, and prints Markdown tables: for each
disturbance the first day on which a series that it concerns is out of its range, and for the
undisturbed year the false alarms, by quarter. An alarm is a series that begins to be out of its range;
if it was out within the week before, it is the same alarm, and segments of the same people, such as
plan and tier in this company, are one series. A company that is in the work folder from an earlier
run is not made again, only its anomalies are. Exit code 1 if a disturbance is found too late, or if
there is more than one false alarm a quarter, on average over the companies.
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
JUDGED_DAYS = 364
DAYS = JUDGED_DAYS + DAYS_BEFORE_JUDGED[Span.WEEK]
SEED = 1
SERIES = "span, measure, scope, segment_dimension, segment_value, state"
PEOPLE = "metric_date, span, measure, state, members, observed"
COLUMNS = "metric_date, span, measure, segment_value, observed, expected, score, threshold"


@dataclass(frozen=True)
class Planted:
    """A disturbance, what it is in words, which rows show it, and how soon they must."""

    words: str
    anomaly: Anomaly
    first: date
    shows: str
    within_days: int


PLANTED = (
    Planted(
        "half of the events of two days not recorded",
        TrackingOutage(DAY, DAY + timedelta(days=1), missing_share=0.5),
        DAY,
        "severity = 'high'",
        2,
    ),
    Planted(
        "lapses 40 times as frequent in Germany for a week",
        ChurnSpike(DAY, DAY + timedelta(days=6), country="DE", factor=40),
        DAY,
        "segment_value = 'DE'",
        2,
    ),
    Planted(
        "a day's events written twice",
        DoubledLoad(DAY),
        DAY,
        "measure = 'events_per_active_user'",
        2,
    ),
    Planted(
        "lapses of everybody ever more frequent, up to 4 times in 4 weeks",
        SlowDrift(DAY - timedelta(days=13), DAY + timedelta(days=14), factor=4),
        DAY - timedelta(days=13),
        "segment_dimension = 'all' AND measure = 'active_share'",
        28,
    ),
)


def anomalies_of(company: Company, folder: Path) -> duckdb.DuckDBPyConnection:
    """The database of a company, with all that the anomalies are made of."""
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


def look_for(planted: Planted, users: int, folder: Path) -> tuple[str, bool]:
    """A row of the table of disturbances, and whether it was found in time."""
    company = Company(users, DAYS, SEED, END, anomalies=(planted.anomaly,))
    with anomalies_of(company, folder) as connection:
        found = connection.execute(
            f"SELECT {COLUMNS} FROM {TABLE.qualified_name} WHERE metric_date >= ?"  # noqa: S608
            f" AND {planted.shows} ORDER BY metric_date, abs(score) DESC LIMIT 1",
            [planted.first],
        ).fetchall()
    if not found:
        return f"| {planted.words} | not found | | | | |", False
    [(day, span, measure, segment, observed, expected, score, threshold)] = found
    number = (day - planted.first).days + 1
    cells = (
        planted.words,
        f"day {number}",
        f"{span}: {measure}, {segment}",
        f"{observed:.3f}",
        f"{expected:.3f}",
        f"{score:+.1f} (out from {threshold:.1f})",
    )
    return f"| {' | '.join(cells)} |", number <= planted.within_days


def false_alarms(seed: int, users: int, folder: Path) -> list[int]:
    """Alarms of an undisturbed year, by quarter; those of the same people on a day count once."""
    with anomalies_of(Company(users, DAYS, seed, END), folder) as connection:
        rows = connection.execute(
            f"SELECT (? - metric_date) // 91, count(DISTINCT ({PEOPLE})) FROM (SELECT *, metric_date"  # noqa: S608
            f" - lag(metric_date) OVER (PARTITION BY {SERIES} ORDER BY metric_date) AS gap FROM"
            f" {TABLE.qualified_name}) WHERE coalesce(gap, 99) > 7 AND metric_date > ? - ?"
            " GROUP BY ALL",
            [END, END, JUDGED_DAYS],
        ).fetchall()
    alarms = dict(rows)
    return [alarms.get(quarter, 0) for quarter in reversed(range(JUDGED_DAYS // 91))]


def run(users: int, calm_seeds: Sequence[int], work: Path) -> bool:
    """Print both tables; whether all was found in time and little without reason."""
    print("| disturbance | found on | by | observed | expected | score |")
    print("|---|---|---|---:|---:|---|")
    is_good = True
    for number, planted in enumerate(PLANTED, start=1):
        row, in_time = look_for(planted, users, work / f"planted_{users}_{number}")
        is_good &= in_time
        print(row, flush=True)
    print("\n| undisturbed company | false alarms by quarter |\n|---|---|")
    total = 0
    for seed in calm_seeds:
        alarms = false_alarms(seed, users, work / f"calm_{users}_{seed}")
        total += sum(alarms)
        print(f"| {users:,} users, seed {seed} | {', '.join(map(str, alarms))} |", flush=True)
    return is_good and total <= len(calm_seeds) * JUDGED_DAYS // 91


def main() -> None:
    """Read the arguments and look."""
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
