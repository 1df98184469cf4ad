"""Findings for a few values; expected sentences are written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from monstera_assets.dashboards.design import LAST_90_DAYS, headline, title
from monstera_assets.dashboards.findings import Point, ranking, total, trend_summary, week_on_week
from monstera_assets.dashboards.model import Direction
from monstera_assets.gold.gold_overall_metrics import CREATED, HEALTH, MONTHLY, STICKINESS
from monstera_assets.gold.gold_revenue_metrics import REVENUE_CLOSING
from monstera_assets.gold.metrics import Metric

FIRST = date(2025, 4, 2)


def points(values: Sequence[Any], step: int = 1) -> list[Point]:
    return [Point(FIRST + timedelta(days=n * step), value) for n, value in enumerate(values)]


@pytest.mark.parametrize(
    ("metric", "values", "sentence"),
    [
        (
            MONTHLY,
            [812, 915, 901],
            "Users Active Monthly rose from 812 to 901 (+11.0%) in 2 days. The highest value was 915"
            " on 2025-04-03.",
        ),
        (
            STICKINESS,
            [0.3, None, 0.25],
            "Users Active Stickiness Monthly fell from 30.0% to 25.0% (-5.0 points) in 2 days."
            " The highest value was 30.0% on 2025-04-02.",
        ),
        (
            MONTHLY,
            [None, 5, 9, 5, None],
            "Users Active Monthly is 5, the same as 2 days earlier. The highest value was 9 on"
            " 2025-04-04. No value is known after 2025-04-05.",
        ),
        (
            STICKINESS,
            [0.0361, 0.04, 0.0362],
            "Users Active Stickiness Monthly is 3.6%, the same as 2 days earlier. The highest value"
            " was 4.0% on 2025-04-03.",
        ),
        (MONTHLY, [3, 3, 3], "Users Active Monthly stayed at 3 for 3 days."),
        (
            MONTHLY,
            [0, 4],
            "Users Active Monthly rose from 0 to 4 in 1 day. The highest value was 4 on 2025-04-03.",
        ),
        (
            MONTHLY,
            [None, 7],
            "Users Active Monthly was 7 on 2025-04-03, the only day with a value.",
        ),
        (MONTHLY, [None], "Users Active Monthly has no known values in this period."),
        (
            REVENUE_CLOSING,
            [Decimal("1620.00"), Decimal("3000.00")],
            "Revenue Closing Daily rose from 1,620.00 to 3,000.00 (+85.2%) in 1 day."
            " The highest value was 3,000.00 on 2025-04-03.",
        ),
    ],
)
def test_trend_summary(metric: Metric, values: list[Any], sentence: str) -> None:
    assert trend_summary(metric, points(values)) == sentence


def test_a_brief_trend_summary_omits_the_highest_value() -> None:
    assert trend_summary(MONTHLY, points([2, 8, 4]), brief=True) == (
        "Users Active Monthly rose from 2 to 4 (+100.0%) in 2 days."
    )


def test_total() -> None:
    assert total(CREATED, points([1, 4, 2]), "day") == (
        "Users Created Daily totals 7 over 3 days. The highest value was 4 on 2025-04-03."
    )
    assert total(CREATED, points([1, None, 3], 7), "week") == (
        "Users Created Daily totals 4 over 2 weeks."
        " The highest value was 3 in the week ending 2025-04-16."
    )
    assert total(CREATED, points([0]), "week") == "Users Created Daily totals 0 over 1 week."
    assert total(CREATED, points([None]), "day") == (
        "Users Created Daily has no known values in this period."
    )


@pytest.mark.parametrize(
    ("bars", "share", "sentence"),
    [
        (
            [("Active", 6, "6"), ("Dormant", 3, "3"), ("New", 1, "1")],
            True,
            "Most users: Active with 6 (60%), followed by Dormant with 3.",
        ),
        (
            [("A", 2, "2"), ("B", 2, "2"), ("C", 1, "1")],
            False,
            "Most users: A, B, with 2 each.",
        ),
        (
            [(name, 1, "1") for name in "ABCDE"],
            True,
            "Most users: A, B, C and 2 more, with 1 (20%) each.",
        ),
        ([("A", 2, "2"), ("B", 0, "0")], False, "Most users: A with 2 and none elsewhere."),
        ([("A", 0, "0")], False, "There are no users."),
        ([], True, "There are no users."),
    ],
)
def test_ranking(bars: list[tuple[str, float, str]], share: bool, sentence: str) -> None:
    assert ranking("users", bars, share=share) == sentence


def test_ranking_on_a_day() -> None:
    assert ranking("users", [("A", 2, "2")], on=FIRST) == (
        "On 2025-04-02, most users: A with 2 and none elsewhere."
    )


@pytest.mark.parametrize(
    ("metric", "now", "then", "direction", "text"),
    [
        (MONTHLY, 12, 9, Direction.UP, "+33.3% from 9"),
        (MONTHLY, 9, 12, Direction.DOWN, "-25.0% from 12"),
        (MONTHLY, 4, 0, Direction.UP, "from 0"),
        (MONTHLY, 0, 0, Direction.FLAT, "unchanged"),
        (STICKINESS, 0.5, 0.4, Direction.UP, "+10.0 pts from 40.0%"),
        (STICKINESS, 0.98601, 0.98599, Direction.FLAT, "unchanged"),
        (HEALTH, 58.3, 58.4, Direction.DOWN, "-0.1 from 58.4"),
        (STICKINESS, None, 0.4, Direction.UNKNOWN, "change not known"),
        (STICKINESS, 0.4, None, Direction.UNKNOWN, "change not known"),
    ],
)
def test_week_on_week(metric: Metric, now: Any, then: Any, direction: Direction, text: str) -> None:
    change = week_on_week(metric, now, then)
    assert (change.direction, change.text) == (direction, text)


def test_titles_follow_the_convention() -> None:
    assert title(MONTHLY, LAST_90_DAYS.name) == "Users, Active Monthly, Last 90 Days"
    assert title(MONTHLY, LAST_90_DAYS.name, "Country") == (
        "Users, Active Monthly, Last 90 Days, by Country"
    )
    assert headline("Products", "Adopted", "to Date") == "Products, Adopted, to Date"
