"""Drawings: ticks, limits, gaps, labels and colors."""

from __future__ import annotations

import re
from datetime import date, timedelta
from xml.etree import ElementTree as ET

import pytest

from monstera_assets.dashboards.charts import (
    Bar,
    Series,
    bar_chart,
    column_chart,
    day_ticks,
    line_chart,
    nice_ticks,
    resolution,
    small_multiples,
    tick_text,
)
from monstera_assets.dashboards.design import COLORS, MAX_POINTS, words
from monstera_assets.dashboards.structure import file_names
from monstera_assets.gold.metrics import Unit

DAYS = [date(2025, 4, 2) + timedelta(days=n) for n in range(90)]
SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [text.text or "" for text in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314


def lines(svg: str) -> list[str]:
    root = ET.fromstring(svg)  # noqa: S314
    return [
        path.get("d", "")
        for path in root.iter(f"{SVG}path")
        if path.get("stroke") == "var(--primary)" and "L" in path.get("d", "")
    ]


@pytest.mark.parametrize(
    ("low", "high", "whole", "ticks"),
    [
        (0, 12, True, [0, 5, 10, 15]),
        (0, 1, True, [0, 1]),
        (0, 3, True, [0, 1, 2, 3]),
        (0, 0, True, [0, 1]),
        (0, 0.9, False, [0, 0.25, 0.5, 0.75, 1]),
        (-410, 1500, False, [-500, 0, 500, 1000, 1500]),
        (0, 26186, False, [0, 10000, 20000, 30000]),
    ],
)
def test_ticks_are_round_and_enclose_all_values(
    low: float, high: float, whole: bool, ticks: list[float]
) -> None:
    assert nice_ticks(low, high, whole=whole) == ticks


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, Unit.USERS, "0"),
        (1500, Unit.USERS, "1,500"),
        (20000, Unit.EVENTS, "20k"),
        (2500000, Unit.MONEY, "2.5M"),
        (-2000, Unit.MONEY, "-2,000"),
        (0.25, Unit.SHARE, "25%"),
        (0.025, Unit.SHARE, "2.5%"),
        (1.5, Unit.RETENTION, "150%"),
        (40, Unit.RETENTION, "40x"),
        (1.5, Unit.RATIO, "1.5"),
        (40, Unit.RATIO, "40"),
        (12.5, Unit.DAYS, "12.5"),
    ],
)
def test_ticks_are_short(value: float, unit: Unit, text: str) -> None:
    assert tick_text(value, unit) == text


def test_ticks_mark_first_days_of_months_and_name_the_year_in_january() -> None:
    assert day_ticks(DAYS, 300) == [(date(2025, 5, 1), "May"), (date(2025, 6, 1), "Jun")]
    year = [date(2024, 7, 1) + timedelta(days=n) for n in range(365)]
    assert day_ticks(year, 280) == [
        (date(2024, 9, 1), "Sep"),
        (date(2024, 11, 1), "Nov"),
        (date(2025, 1, 1), "2025"),
        (date(2025, 3, 1), "Mar"),
        (date(2025, 5, 1), "May"),
    ]
    assert day_ticks([date(2025, 6, 30)], 280) == [(date(2025, 6, 30), "30 Jun 2025")]


def test_long_series_are_shown_by_week() -> None:
    assert resolution(548, 1) == 1
    assert resolution(500, 2) == 1
    assert resolution(548, 2) == 7
    assert MAX_POINTS >= -(-548 // 7) * 8
    long = [date(2024, 1, 1) + timedelta(days=n) for n in range(501)]
    with pytest.raises(ValueError, match=r"1002 points\. The limit is 1000"):
        line_chart(long, [Series("a", [1.0] * 501), Series("b", [1.0] * 501)], Unit.USERS)
    with pytest.raises(ValueError, match=r"4 lines\. The limit is 3"):
        line_chart(DAYS, [Series(name, [1.0] * 90) for name in "abcd"], Unit.USERS)
    with pytest.raises(ValueError, match="at least one day"):
        line_chart([], [Series("a", [])], Unit.USERS)


def test_an_unknown_value_is_a_gap_and_an_isolated_value_is_a_dot() -> None:
    values: list[float | None] = [5.0] * 90
    values[20:30] = [None] * 10
    values[24] = 7.0
    svg = line_chart(DAYS, [Series("Users", values, "5")], Unit.USERS).svg
    [line] = [path for path in lines(svg) if path.count("L") > 50]
    # Two line segments, and the isolated day between them.
    assert line.count("M") == 3
    assert texts(svg)[-1] == "5"
    # One circle for the isolated value, one for the latest.
    assert len(re.findall(r'<circle[^>]* fill="var\(--primary\)"', svg)) == 2


def test_lines_end_with_name_and_latest_value_and_labels_do_not_overlap() -> None:
    series = [
        Series(name, [value] * 90, "8") for name, value in zip("abc", (8.0, 8.0, 7.9), strict=True)
    ]
    svg = line_chart(DAYS, series, Unit.USERS).svg
    assert texts(svg)[-3:] == ["a 8", "b 8", "c 8"]
    places = [
        float(re.findall(r"translate\([-\d.]+,([-\d.]+)\)", text.get("transform", ""))[0])
        for text in [*ET.fromstring(svg).iter(f"{SVG}text")][-3:]  # noqa: S314
    ]
    assert all(abs(one - other) >= 14 for one in places for other in places if one is not other)


def test_one_day_can_be_drawn() -> None:
    svg = line_chart(DAYS[:1], [Series("Users", [5.0], "5")], Unit.USERS).svg
    assert {"5", "2 Apr 2025"} <= set(texts(svg))
    svg = small_multiples(DAYS[:1], [Series("one", [5.0], "5")]).svg
    assert texts(svg) == ["one", "5", "2 Apr 2025"]


def test_bars_have_escaped_names_and_values() -> None:
    evil = '</text><script>alert("1")</script>'
    svg = bar_chart([Bar("first", 8, "8"), Bar(evil, 3, "3"), Bar("none", 0, "0")]).svg
    assert "<script" not in svg
    names = texts(svg)
    assert names == ["first", evil, "none", "8", "3", "0"]
    assert texts(bar_chart([Bar("x" * 80, 1, "1")]).svg)[0].endswith("x…")
    with pytest.raises(ValueError, match="at least one bar"):
        bar_chart([])


def test_gains_and_losses_are_named() -> None:
    drawing = column_chart(
        DAYS[:3], Series("Came", [3.0, 0.0, 2.0]), Series("Went", [-1.0, None, -2.0]), Unit.USERS
    )
    assert {"Came", "Went"} <= set(texts(drawing.svg))
    assert drawing.bands
    assert 'fill="var(--rising)"' in drawing.svg
    assert 'fill="var(--declining)"' in drawing.svg


def test_colors_are_variables_and_the_same_values_give_the_same_bytes() -> None:
    def draw() -> list[str]:
        return [
            line_chart(DAYS, [Series("Users", [5.0] * 90, "5")], Unit.USERS).svg,
            column_chart(DAYS, Series("Users", [5.0] * 90), None, Unit.USERS).svg,
            bar_chart([Bar("a", 1, "1")]).svg,
            small_multiples(DAYS, [Series(name, [5.0] * 90, "5") for name in "abc"]).svg,
        ]

    drawn = draw()
    for svg in drawn:
        assert "#" not in svg
        used = set(re.findall(r"var\(--([a-z]+)\)", svg))
        assert used <= set(COLORS)
        assert "font-family" not in svg
        assert "style=" not in svg
    assert draw() == drawn


def test_file_names_are_safe_and_unique() -> None:
    assert file_names(["Video Studio", "video_studio", "../../etc/passwd", "<b>", "日本"]) == {
        "Video Studio": "video_studio",
        "video_studio": "video_studio_2",
        "../../etc/passwd": "etc_passwd",
        "<b>": "b",
        "日本": "product",
    }


def test_values_for_display() -> None:
    assert words("at_risk") == "At risk"
    assert words("api") == "API"
