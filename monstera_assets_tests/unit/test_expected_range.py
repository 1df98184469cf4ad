"""Tests of expected ranges: by hand, against a literal implementation, and without later data."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir
import pandas as pd
import pytest

from monstera_assets.lifecycle.policy import AnomalyPolicy
from monstera_assets.prediction.expected_range import (
    DAYS_BEFORE_JUDGED,
    Span,
    evaluate,
    normal_quantile,
    student_quantile,
)
from monstera_assets.warehouse.compiler import compile_duckdb

FIRST = date(2025, 1, 6)
POLICY = AnomalyPolicy()
COLUMNS = {
    "name": "string",
    "metric_date": "date",
    "members": "int64",
    "amount": "float64",
    "turnover": "int64",
    "together": "int64",
    "base": "float64",
    "is_proportion": "boolean",
    "least_deviation": "float64",
    "least_relative_deviation": "float64",
}


@dataclass(frozen=True)
class Day:
    """The input of a series on one day."""

    members: int
    amount: float
    turnover: int = 0
    together: int = 0
    is_proportion: bool = True


def ranges(
    series: Mapping[str, Sequence[Day]], span: Span, false_alarms: float = 2 * 91 * 0.001
) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the evaluated days, by series and day number."""
    rows = pd.DataFrame(
        [
            {
                "name": name,
                "metric_date": FIRST + timedelta(days=number),
                **{key: getattr(day, key) for key in Day.__dataclass_fields__},
                "base": 0.0,
                "least_deviation": 0.0,
                "least_relative_deviation": POLICY.min_relative_deviation,
            }
            for name, days in series.items()
            for number, day in enumerate(days)
        ]
    )
    with duckdb.connect() as connection:
        types = {"string": "VARCHAR", "int64": "BIGINT", "float64": "DOUBLE"}
        connection.register("given", rows)
        cast = ", ".join(
            f"{name}::{types.get(kind, kind)} AS {name}" for name, kind in COLUMNS.items()
        )
        connection.execute(f"CREATE TABLE series AS SELECT {cast} FROM given")
        found = evaluate(
            ibis.table(COLUMNS, "series"),
            keys=["name"],
            span=span,
            policy=POLICY,
            false_alarms=false_alarms,
        )
        frame = connection.execute(compile_duckdb(found)).df()
    return {
        (record["name"], (record["metric_date"].date() - FIRST).days): {
            str(name): value for name, value in record.items()
        }
        for record in frame.to_dict("records")
    }


def computed(figure: ir.FloatingValue) -> float:
    with duckdb.connect() as connection:
        [(value,)] = connection.execute(compile_duckdb(figure.name("x").as_table())).fetchall()
    return float(value)


@pytest.mark.parametrize(
    ("tail", "value"), [(0.025, 1.95996), (0.001, 3.09023), (1e-4, 3.71902), (1e-5, 4.26489)]
)
def test_quantiles_of_the_normal_distribution_as_published(tail: float, value: float) -> None:
    assert computed(normal_quantile(ibis.literal(tail))) == pytest.approx(value, abs=4.5e-4)


@pytest.mark.parametrize(
    ("tail", "freedom", "value"),
    [
        (0.01, 10, 2.764),
        (0.001, 10, 4.144),
        (0.0005, 10, 4.587),
        (0.001, 30, 3.385),
        (0.0005, 30, 3.646),
        (0.001, 60, 3.232),
    ],
)
def test_quantiles_of_students_distribution_as_tabled(
    tail: float, freedom: float, value: float
) -> None:
    quantile = student_quantile(ibis.literal(tail), ibis.literal(float(freedom)))
    assert computed(quantile) == pytest.approx(value, rel=0.005)


def test_a_day_by_hand() -> None:
    """200 of 1,000 members every day, then 150. Chance deviates by sqrt(1000 x 0.2 x 0.8 + 1)."""
    last = DAYS_BEFORE_JUDGED[Span.DAY]
    found = ranges({"a": [Day(1000, 200)] * last + [Day(1000, 150)]}, Span.DAY)
    assert list(found) == [("a", last)]
    row = found["a", last]
    assert (row["observed"], row["expected"], row["members_deviating"]) == (0.15, 0.2, -50)
    assert row["score"] == pytest.approx(-50 / math.sqrt(161))
    # Tail 0.001, one series, 0.37 x 84 degrees of freedom: 3.375 for 31 in tables.
    assert row["threshold"] == pytest.approx(3.375, abs=0.01)
    assert row["expected_low"] == pytest.approx(0.2 - 3.375 * math.sqrt(161) / 1000, abs=2e-4)
    assert row["is_out"]
    # Six weeks before the first of 84 residuals, limited to the 112 days that exist.
    learned = [(row[f"training_{end}_date"].date() - FIRST).days for end in ("first", "last")]
    assert learned == [0, last - 1]


def test_a_week_by_hand() -> None:
    """A week at 180 of 1,000 after half a year at 200. Chance deviates by sqrt(161) per day."""
    days = [Day(1000, 200)] * (DAYS_BEFORE_JUDGED[Span.WEEK] - 6) + [Day(1000, 180)] * 7
    found = ranges({"a": days}, Span.WEEK)
    row = found["a", len(days) - 1]
    assert list(found) == [("a", len(days) - 1)]
    assert (row["observed"], row["expected"]) == (0.18, 0.2)
    assert (row["members"], row["members_deviating"]) == (1000, -20)
    assert row["score"] == pytest.approx(7 * -20 / math.sqrt(161) / math.sqrt(7))
    assert row["is_out"]
    # The last four weeks are excluded, so that drift does not shift the expectation.
    assert (row["metric_date"] - row["training_last_date"]).days == 28


@pytest.mark.parametrize("span", list(Span))
def test_the_days_learned_from_are_all_that_matter(span: Span) -> None:
    """Changes outside the training days leave a row unchanged, but changes within them do not."""
    series = random_series(4, 300)["many"]
    row = ranges({"a": series}, span)["a", 299]
    first, last = ((row[f"training_{e}_date"].date() - FIRST).days for e in ("first", "last"))
    assert 0 < first < last < 299
    of_span = 299 if span == Span.DAY else 293
    assert last < of_span
    other = Day(5000, 4000, 4000)
    for number in (0, first - 1, *range(last + 1, of_span)):
        changed = [*series[:number], other, *series[number + 1 :]]
        assert ranges({"a": changed}, span)["a", 299] == row, number
    # Changing a single day might not change a median.
    for part in (slice(first, first + 60), slice(last - 59, last + 1)):
        changed = list(series)
        changed[part] = [other] * 60
        assert ranges({"a": changed}, span)["a", 299] != row, part


def test_one_bad_day_is_no_drift() -> None:
    """A day without activity is clipped at three standard deviations."""
    days = [Day(1000, 200)] * DAYS_BEFORE_JUDGED[Span.WEEK] + [Day(1000, 0)]
    row = ranges({"a": days}, Span.WEEK)["a", len(days) - 1]
    assert row["score"] == pytest.approx(-3 / math.sqrt(7), abs=1e-6)
    assert not row["is_out"]


def test_small_or_short_series_are_not_evaluated() -> None:
    days = DAYS_BEFORE_JUDGED[Span.DAY]
    series = {
        "few": [Day(99, 20)] * (days + 1),
        "young": [Day(1000, 200)] * days,
        "empty": [Day(0, 0)] * (days + 1),
        "enough": [Day(100, 20)] * (days + 1),
    }
    assert list(ranges(series, Span.DAY)) == [("enough", days)]


def test_a_small_deviation_is_none_however_sure_it_is() -> None:
    days = DAYS_BEFORE_JUDGED[Span.DAY]
    many = 10_000_000
    for amount, is_out in ((1_910_000, False), (1_890_000, True)):
        found = ranges({"a": [Day(many, 2_000_000)] * days + [Day(many, amount)]}, Span.DAY)
        assert found["a", days]["score"] < -found["a", days]["threshold"]
        assert found["a", days]["is_out"] == is_out


def test_more_series_make_a_wider_range() -> None:
    days = DAYS_BEFORE_JUDGED[Span.DAY] + 1
    one = ranges({"a": [Day(1000, 200)] * days}, Span.DAY)
    many = ranges({str(n): [Day(1000, 200)] * days for n in range(50)}, Span.DAY)
    assert many["0", days - 1]["series_judged"] == 50
    assert many["0", days - 1]["threshold"] > one["a", days - 1]["threshold"] + 1


def test_members_of_one_account_count_as_one() -> None:
    """40 of 1,000 members leave a state, either in 40 accounts or in a single one."""
    days = DAYS_BEFORE_JUDGED[Span.DAY]
    calm = [Day(1000, 0, turnover=2, is_proportion=False)] * days
    for together, score in ((40, -40 / math.sqrt(40)), (1600, -1.0)):
        last = Day(1000, -40, 40, together, is_proportion=False)
        found = ranges({"a": [*calm, last]}, Span.DAY)["a", days]
        assert found["score"] == pytest.approx(score)
        assert found["is_out"] == (together == 40)


def random_series(seed: int, days: int) -> dict[str, list[Day]]:
    """Return series with a weekly pattern, noise, days without members, and shocks."""
    dice = random.Random(seed)  # noqa: S311  # not for secrets
    series: dict[str, list[Day]] = {}
    for name in ("few", "many", "moves"):
        members = {"few": 120, "many": 5000, "moves": 800}[name]
        series[name] = []
        for day in range(days):
            there = 0 if dice.random() < 0.01 else members + day
            rate = (0.1 if day % 7 > 4 else 0.3) * dice.uniform(0.8, 1.2)
            rate *= 0.4 if dice.random() < 0.03 else 1.0
            if name == "moves":
                moved = dice.randrange(12)
                amount = float(dice.randrange(-moved, moved + 1)) if there else 0.0
                series[name].append(
                    Day(there, amount, moved, dice.randrange(60), is_proportion=False)
                )
            else:
                amount = float(round(there * rate))
                series[name].append(Day(there, amount, int(amount)))
    return series


def literal(days: Sequence[Day], span: Span) -> dict[int, tuple[float, float]]:
    """Return the expected rate and the score by day number, literally by the definitions."""
    first_week, last_week, fewest = (1, 6, 4) if span == Span.DAY else (4, 15, 6)
    amounts: dict[int, float] = {}
    distance: dict[int, float] = {}
    for number, today in enumerate(days):
        weeks = [
            days[number - 7 * ago]
            for ago in range(first_week, last_week + 1)
            if number >= 7 * ago and days[number - 7 * ago].members > 0
        ]
        if len(weeks) < fewest:
            continue
        rate = statistics.median(day.amount / day.members for day in weeks)
        turned = statistics.median(day.turnover / day.members for day in weeks)
        each = rate * (1 - rate) if today.is_proportion else turned
        chance = max(today.members * each + 1, today.together)
        amounts[number] = today.members * rate
        distance[number] = (today.amount - amounts[number]) / math.sqrt(chance)
    if span == Span.WEEK:
        weekly = {
            number: [distance[day] for day in range(number - 6, number + 1)]
            for number in distance
            if all(day in distance for day in range(number - 6, number + 1))
        }
        distance = {
            number: sum(min(max(day, -3), 3) for day in week) / math.sqrt(7)
            for number, week in weekly.items()
        }
    scores: dict[int, tuple[float, float]] = {}
    for number in distance:
        length = 1 if span == Span.DAY else 7
        part = range(number - length + 1, number + 1)
        members = sum(days[day].members for day in part)
        near = range(1, 85) if span == Span.DAY else range(28, 112)
        before = [abs(distance[number - ago]) for ago in near if number - ago in distance]
        if len(before) < 84 or members < 100 * length:
            continue
        if span == Span.DAY:
            spread = max(1.0, 1.4826 * statistics.median(before))
        else:
            spread = max(1.0, 1.2533 * statistics.mean(before))
        expected = sum(amounts[day] for day in part) / members
        scores[number] = expected, distance[number] / spread
    return scores


@pytest.mark.parametrize("span", list(Span))
@pytest.mark.parametrize("seed", [1, 2])
def test_equal_to_the_literal_implementation(seed: int, span: Span) -> None:
    series = random_series(seed, 260)
    if span == Span.WEEK:
        del series["moves"]
    expected = {
        (name, number): values
        for name, days in series.items()
        for number, values in literal(days, span).items()
    }
    found = ranges(series, span)
    assert found.keys() == expected.keys()
    assert len(expected) > 100
    for key, (rate, score) in expected.items():
        assert found[key]["expected"] == pytest.approx(rate, abs=1e-9)
        assert found[key]["score"] == pytest.approx(score, abs=1e-5), key


@pytest.mark.parametrize("span", list(Span))
def test_what_comes_later_changes_nothing(span: Span) -> None:
    series = random_series(3, 260)
    if span == Span.WEEK:
        del series["moves"]
    whole = ranges(series, span)
    until = ranges({name: days[:230] for name, days in series.items()}, span)
    assert until == {key: row for key, row in whole.items() if key[1] < 230}
    assert until
