"""Charts: their data, their library, and the colors of states."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vl_convert

from monstera_assets.dashboards import library
from monstera_assets.dashboards.model import (
    ON_DAY,
    SEGMENT,
    SERIES,
    Cell,
    Chart,
    Field,
    choice,
    state_color,
    words,
)
from monstera_assets.lifecycle.states import AccountState, ProductState, UserState

NAME, USERS = Field("name", "Name"), Field("users", "Users", ",d")
COLORS = {"A": "primary", "B": "second"}
FIRST, SECOND = date(2025, 6, 1), date(2025, 6, 2)


# ---------------------------------------------------------------- data


def test_a_table_has_a_column_per_series_and_only_the_rows_shown_first() -> None:
    grain = choice("grain", "Grain", ["Week", "Day"], "Day")
    rows = [
        ("Day", "all", FIRST, "A", 1),
        ("Day", "all", FIRST, "B", None),
        ("Day", "country:US", FIRST, "A", 7),
        ("Week", "all", FIRST, "A", 9),
        ("Day", "all", SECOND, "B", 1200),
    ]
    chart = Chart("lines", (grain, SEGMENT, ON_DAY, SERIES, USERS), rows, COLORS)
    table = chart.table()
    assert table.headings == ("Day", "A", "B")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["1 Jun 2025", "1", "not known"],
        ["2 Jun 2025", "not known", "1,200"],
    ]
    assert table.rows[1][2] == Cell("1,200", 1200.0)


def test_the_data_is_by_column_with_codes_for_texts() -> None:
    rows = [(FIRST, "x", Decimal("1.50")), (None, "y", None)]
    chart = Chart("bars", (ON_DAY, NAME, USERS), rows)
    assert chart.payload()["columns"] == [
        [20240, None],
        {"texts": ["x", "y"], "codes": [0, 1]},
        [1.5, None],
    ]
    assert (date(1970, 1, 1) - FIRST).days == -20240


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        (",d", 1234567, "1,234,567"),
        (".1%", 0.12345, "12.3%"),
        # Browsers round these the same way: the decimal text, and halves to the even digit.
        (",.2f", 2.175, "2.18"),
        (",.2f", 2.125, "2.12"),
        (",.2f", Decimal("1000.5"), "1,000.50"),
        ("day", FIRST, "1 Jun 2025"),
        ("", "as_is", "as_is"),
        ("words", "at_risk", "At risk"),
        ("words", None, ""),
        (",d", None, "not known"),
    ],
)
def test_values_are_formatted(form: str, value: Any, text: str) -> None:
    assert Field("x", "X", form).text(value) == text


# ---------------------------------------------------------------- library


def test_the_library_is_cached_for_this_user_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda _: "first")
    assert library.chart_library() == "first"
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda _: "second")
    assert library.chart_library() == "first"
    [kept] = (tmp_path / "monstera" / "charts").iterdir()
    assert kept.stat().st_mode & 0o077 == 0
    kept.chmod(0o666)
    assert library.chart_library() == "second"


# ---------------------------------------------------------------- colors


STATES = {"users": UserState, "products": ProductState, "accounts": AccountState}
MACHADO = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
"""Simulation of color blindness on linear RGB (Machado, Oliveira and Fernandes 2009, severity 1.0)."""
JUST_DISTINCT = 10
"""A difference in CIELAB, of which 2.3 is just noticeable for two colors side by side."""


def palette(scheme: str) -> dict[str, str]:
    """Return the colors of the style sheet's variables in a color scheme."""
    text = files("monstera_assets.dashboards").joinpath("templates/style.css").read_text("utf-8")
    light, dark = re.findall(r":root \{(.*?)\n *\}", text, re.DOTALL)[:2]
    found = dict(re.findall(r"--([\w-]+): (#[0-9A-F]{6})", light))
    return (
        {**found, **dict(re.findall(r"--([\w-]+): (#[0-9A-F]{6})", dark))}
        if scheme == "dark"
        else found
    )


def lab(color: str, matrix: list[list[float]] | None) -> Any:
    """Return a color's CIELAB coordinates (D65), as seen with a color blindness if one is given."""
    rgb = np.array([int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    if matrix:
        linear = np.clip(np.array(matrix) @ linear, 0, 1)
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    xyz = to_xyz @ linear / np.array([0.95047, 1, 1.08883])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("entities", STATES)
def test_color_blind_readers_can_distinguish_the_states(entities: str, scheme: str) -> None:
    colors = palette(scheme)
    for left, right in combinations(STATES[entities], 2):
        first, second = (colors[state_color(str(state))] for state in (left, right))
        for seen in (None, *MACHADO.values()):
            distance = np.linalg.norm(lab(first, seen) - lab(second, seen))
            assert distance >= JUST_DISTINCT, f"{words(left)} and {words(right)}: {distance:.1f}"


def test_states_that_mean_the_same_share_a_color() -> None:
    assert state_color("new") == state_color("new_paid") == state_color("new_to_product")
    assert state_color("churned") == state_color("churned_from_product") == "state-churned"
    # The framework's colors for rising, declining and primary series.
    assert palette("light")["state-new"] == palette("light")["rising"]
    assert palette("light")["state-churned"] == palette("light")["declining"]
    assert palette("light")["state-active"] == palette("light")["primary"]
