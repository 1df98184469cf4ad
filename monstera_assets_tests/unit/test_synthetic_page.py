"""Test that docs/reference/synthetic.md documents all rates, with figures that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from monstera_assets.cli import main
from monstera_assets.synthetic import (
    DEFAULT_DAYS,
    DEFAULT_END,
    DEFAULT_SEED,
    DEFAULT_USERS,
)
from monstera_assets.synthetic.rates import DEFAULT_RATES, Rates
from monstera_assets_tests.helpers.markdown_page import Row, sections

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "synthetic.md").read_text(
    encoding="utf-8"
)


def shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {shown(each)}" for name, each in value.items())
    if isinstance(value, tuple):
        return ", ".join(map(shown, value))
    return f"{value:g}"


def documented() -> list[Row]:
    return [
        row for part in sections(PAGE) for table in part.tables for row in table if "rate" in row
    ]


def test_every_rate_is_documented_once_in_order() -> None:
    assert [row["rate"] for row in documented()] == list(Rates.model_fields)


def test_values_and_meanings_equal_those_of_the_code() -> None:
    for row in documented():
        name = row["rate"]
        assert row["value"] == shown(getattr(DEFAULT_RATES, name)), name
        assert row["meaning"].split() == str(Rates.model_fields[name].description).split(), name


def test_every_rate_has_a_reason() -> None:
    assert all(row["reason"] for row in documented())


def test_figures_in_the_reasons_follow_from_the_rates() -> None:
    """Shares over 30 days, of converted trials and of activated people follow from the rates."""
    why = {row["rate"]: row["reason"] for row in documented()}
    rates = DEFAULT_RATES
    by_decision = 1 - (1 - rates.leaving_per_day) ** 30
    gone = rates.leaving_per_day + rates.failure_per_day * (1 - rates.recovered_share)
    assert f"{100 * by_decision:.1f} %" in why["leaving_per_day"]
    assert f"{100 * (1 - (1 - gone) ** 30):.1f} % in all" in why["leaving_per_day"]
    failing = 1 - (1 - rates.failure_per_day) ** 30
    assert f"{100 * failing:.1f} %" in why["failure_per_day"]
    assert f"{100 * (1 - (1 - rates.pause_per_day) ** 30):.1f} %" in why["pause_per_day"]
    assert f"{100 * (1 - (1 - rates.upgrade_per_day) ** 30):.1f} %" in why["upgrade_per_day"]
    converted = 1 - (1 - rates.conversion_per_day) ** 30
    assert abs(converted - 2 / 3) < 0.02
    deleted = 1 - (1 - rates.deletion_per_day) ** 365
    assert f"{100 * deleted:.0f} %" in why["deletion_per_day"]
    for name, source in (("paid search", "paid_search"), ("invited", "invitation")):
        odds = rates.activation_per_day * rates.activation_by_source[source]
        # Activation and giving up compete on each day.
        share = odds / (odds + rates.giving_up_per_day)
        assert f"{100 * share:.0f} % ({name})" in why["activation_per_day"]


def test_defaults_equal_those_of_the_command() -> None:
    options = {
        row["option"]: row["default"]
        for part in sections(PAGE)
        for table in part.tables
        for row in table
        if "option" in row
    }
    assert options == {
        f"--{name.replace('_', '-')}": shown_default
        for name, shown_default in {
            "users": str(DEFAULT_USERS),
            "days": str(DEFAULT_DAYS),
            "to": str(DEFAULT_END),
            "seed": str(DEFAULT_SEED),
            "events": "none",
            "as_of": "none",
            "format": "parquet",
            "truth": "off",
            "output": "",
        }.items()
    }
    command = main.commands["generate"]
    assert {name for option in command.params for name in option.opts} == set(options)
