"""Tests of the churn settings: their documentation page and their validation."""

from __future__ import annotations

from pathlib import Path

import pytest

from monstera_assets.lifecycle.policy import ChurnPolicy
from monstera_assets_tests.helpers.markdown_page import plain, section

PAGE = (Path(__file__).parents[2] / "docs" / "explanation" / "churn.md").read_text(encoding="utf-8")


def test_the_page_lists_all_settings() -> None:
    listed = [
        (plain(row["setting"]), row["default"], row["meaning"])
        for row in section(PAGE, "Settings").rows
    ]
    assert listed == [
        (name, f"{field.default:g}", field.description)
        for name, field in ChurnPolicy.model_fields.items()
    ]


@pytest.mark.parametrize("prefix", ["", "account_"])
def test_medium_risk_does_not_begin_above_high_risk(prefix: str) -> None:
    ChurnPolicy(**{f"{prefix}medium_risk_from": 0.2, f"{prefix}high_risk_from": 0.2})
    with pytest.raises(ValueError, match=rf"{prefix}medium_risk_from \(0\.3\) must not exceed"):
        ChurnPolicy(**{f"{prefix}medium_risk_from": 0.3, f"{prefix}high_risk_from": 0.2})
