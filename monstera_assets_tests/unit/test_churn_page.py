"""The page on churn scores names every setting with its default and meaning."""

from __future__ import annotations

from pathlib import Path

from monstera_assets.lifecycle.policy import ChurnPolicy
from monstera_assets_tests.markdown_page import plain, section

PAGE = (Path(__file__).parents[2] / "docs" / "churn.md").read_text(encoding="utf-8")


def test_settings_are_those_that_there_are() -> None:
    told = [
        (plain(row["setting"]), row["default"], row["meaning"])
        for row in section(PAGE, "What can be set").rows
    ]
    assert told == [
        (name, f"{field.default:g}", field.description)
        for name, field in ChurnPolicy.model_fields.items()
    ]
