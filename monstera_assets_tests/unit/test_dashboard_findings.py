"""Findings for a few values; expected sentences are written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from monstera_assets.dashboards.findings import Point, Wording, ranking
from monstera_assets.dashboards.model import title
from monstera_assets.gold.gold_growth_accounting import QUICK_RATIO
from monstera_assets.gold.gold_overall_metrics import CREATED, HEALTH, MONTHLY, STICKINESS
from monstera_assets.gold.gold_revenue_metrics import REVENUE_CLOSING, REVENUE_RETAINED_NET
from monstera_assets.gold.metrics import Metric

FIRST = date(2025, 4, 2)
WORDING = Wording(currency="EUR", minimum_base=30)


def points(values: Sequence[Any], step: int = 1) -> list[Point]:
    return [Point(FIRST + timedelta(days=n * step), value) for n, value in enumerate(values)]


@pytest.mark.parametrize(
    ("metric", "values", "sentence"),
    [
        (
            MONTHLY,
            [812, 915, 901],
            "Users Active Monthly rose from 812 to 901 (+11.0%) in 2 days. The highest value was 915"
            " on 3 Apr 2025.",
        ),
        (
            STICKINESS,
            [0.3, None, 0.25],
            "Users Active Stickiness Monthly fell from 30.0% to 25.0% (-5.0 points) in 2 days."
            " The highest value was 30.0% on 2 Apr 2025.",
        ),
        (
            MONTHLY,
            [None, 5, 9, 5, None],
            "Users Active Monthly is 5, the same as 2 days earlier. The highest value was 9 on"
            " 4 Apr 2025. No value is known after 5 Apr 2025.",
        ),
        (
            STICKINESS,
            [0.0361, 0.04, 0.0362],
            "Users Active Stickiness Monthly is 3.6%, the same as 2 days earlier. The highest value"
            " was 4.0% on 3 Apr 2025.",
        ),
        (
            MONTHLY,
            [3, 3, 3],
            "Users Active Monthly is 3, the same as 2 days earlier. The highest value was 3 on 2 Apr"
            " 2025.",
        ),
        (
            MONTHLY,
            [2, 61],
            "Users Active Monthly rose from 2 to 61 in 1 day. The highest value was 61 on"
            " 3 Apr 2025.",
        ),
        (
            MONTHLY,
            [29, 58],
            "Users Active Monthly rose from 29 to 58 in 1 day. The highest value was 58 on"
            " 3 Apr 2025.",
        ),
        (
            MONTHLY,
            [30, 60],
            "Users Active Monthly rose from 30 to 60 (+100.0%) in 1 day. The highest value was 60 on"
            " 3 Apr 2025.",
        ),
        (
            QUICK_RATIO,
            [0.8, 1.25],
            "Users Quick Ratio per Window rose from 0.80 to 1.25 (+0.45) in 1 day. The highest value"
            " was 1.25 on 3 Apr 2025.",
        ),
        (
            REVENUE_RETAINED_NET,
            [0.95, 1.12],
            "Revenue Retained Net Monthly rose from 95.0% to 112.0% (+17.0 points) in 1 day. The"
            " highest value was 112.0% on 3 Apr 2025.",
        ),
        (
            REVENUE_CLOSING,
            [Decimal("20.00"), Decimal("5920.00")],
            "Revenue Closing Daily rose from 20.00 EUR to 5,920 EUR in 1 day. The highest value was"
            " 5,920 EUR on 3 Apr 2025.",
        ),
        (
            REVENUE_CLOSING,
            [Decimal("49.00"), Decimal("588.00")],
            "Revenue Closing Daily rose from 49.00 EUR to 588 EUR in 1 day. The highest value was"
            " 588 EUR on 3 Apr 2025.",
        ),
        (
            REVENUE_CLOSING,
            [Decimal("49.00"), Decimal("539.00")],
            "Revenue Closing Daily rose from 49.00 EUR to 539 EUR (+1,000.0%) in 1 day. The highest"
            " value was 539 EUR on 3 Apr 2025.",
        ),
        (
            MONTHLY,
            [None, 7],
            "Users Active Monthly was 7 on 3 Apr 2025, the only day with a value.",
        ),
        (MONTHLY, [None], "Users Active Monthly has no known values in this period."),
        (
            REVENUE_CLOSING,
            [Decimal("1620.00"), Decimal("3000.00")],
            "Revenue Closing Daily rose from 1,620 EUR to 3,000 EUR (+85.2%) in 1 day."
            " The highest value was 3,000 EUR on 3 Apr 2025.",
        ),
    ],
)
def test_trend_summary(metric: Metric, values: list[Any], sentence: str) -> None:
    assert WORDING.trend_summary(metric, points(values)) == sentence


def test_a_trend_compares_with_four_weeks_earlier() -> None:
    values = [1, 100, None, *range(150, 176), 200]
    assert WORDING.trend_summary(MONTHLY, points(values)) == (
        "Users Active Monthly rose from 100 to 200 (+100.0%) in 28 days. The highest value was 200 on"
        " 1 May 2025."
    )


def test_a_brief_trend_summary_omits_the_highest_value() -> None:
    assert WORDING.trend_summary(MONTHLY, points([200, 800, 400]), brief=True) == (
        "Users Active Monthly rose from 200 to 400 (+100.0%) in 2 days."
    )


def test_sums_of_a_daily_metric_are_those_of_weeks() -> None:
    values = points([99, 10, 10, 10, 10, 20, 20, 20, None], 7)
    assert WORDING.trend_summary(CREATED, values, weekly=True) == (
        "Users Created Weekly rose from 10 to 20 in 28 days. The highest value was 99 on 2 Apr 2025. No"
        " value is known after 21 May 2025."
    )
    assert WORDING.trend_summary(CREATED, points([None]), weekly=True) == (
        "Users Created Weekly has no known values in this period."
    )


@pytest.mark.parametrize(
    ("bars", "whole", "sentence"),
    [
        (
            [("Active", 6), ("Dormant", 3), ("New", 1)],
            10,
            "Most users: Active with 6 (60.0% of 10), followed by Dormant with 3.",
        ),
        (
            [("Active", 6), ("Dormant", 3)],
            2000,  # the other 1,991 are in categories without a bar
            "Most users: Active with 6 (0.3% of 2,000), followed by Dormant with 3.",
        ),
        (
            [("A", 2), ("B", 2), ("C", 1)],
            None,
            "Most users: A with 2, followed by B with 2.",
        ),
        (
            [(name, 1) for name in "ABCDE"],
            5,
            "Most users: A with 1 (20.0% of 5), followed by B with 1.",
        ),
        ([("A", 2), ("B", 0)], None, "Most users: A with 2."),
        ([("A", 2)], 3, "Most users: A with 2 (66.7% of 3)."),
        ([("A", 0)], None, "There are no users."),
        ([], 7, "There are no users."),
    ],
)
def test_ranking(bars: list[tuple[str, float]], whole: float | None, sentence: str) -> None:
    assert ranking("users", bars, whole=whole) == sentence


def test_ranking_of_amounts_on_a_day() -> None:
    amounts = [("A", 250), ("B", 20)]
    assert ranking("MRR", amounts, when="on 2 Apr 2025", text=WORDING.money) == (
        "On 2 Apr 2025, most MRR: A with 250 EUR, followed by B with 20.00 EUR."
    )


@pytest.mark.parametrize(
    ("metric", "now", "then", "direction", "text"),
    [
        (MONTHLY, 120, 90, "up", "+33.3% from 90"),
        (MONTHLY, 90, 120, "down", "-25.0% from 120"),
        (MONTHLY, 61, 2, "up", "from 2 to 61"),
        (MONTHLY, 0, 29, "down", "from 29 to 0"),
        (MONTHLY, 0, 30, "down", "-100.0% from 30"),
        (MONTHLY, 4, 0, "up", "from 0 to 4"),
        (MONTHLY, 400, 30, "up", "from 30 to 400"),
        (REVENUE_CLOSING, Decimal("33"), Decimal("30"), "up", "+10.0% from 30.00 EUR"),
        (QUICK_RATIO, 1.5, 2.0, "down", "-0.50 from 2.00"),
        (MONTHLY, 0, 0, "flat", "unchanged"),
        (STICKINESS, 0.5, 0.4, "up", "+10.0 pts from 40.0%"),
        (STICKINESS, 0.98601, 0.98599, "flat", "unchanged"),
        (HEALTH, 58.3, 58.4, "down", "-0.1 from 58.4"),
        (STICKINESS, None, 0.4, "unknown", "change not known"),
        (STICKINESS, 0.4, None, "unknown", "change not known"),
    ],
)
def test_week_on_week(metric: Metric, now: Any, then: Any, direction: str, text: str) -> None:
    change = WORDING.week_on_week(metric, now, then)
    assert (change.direction, change.text) == (direction, text)


def test_titles_follow_the_convention() -> None:
    assert title(MONTHLY) == "Users, Active Monthly, Last 18 Months"
    assert title(MONTHLY, "Country") == "Users, Active Monthly, Last 18 Months, by Country"
    assert title(MONTHLY, what="Active and Away") == "Users, Active and Away, Last 18 Months"
