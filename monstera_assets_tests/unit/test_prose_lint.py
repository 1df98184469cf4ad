"""The prose linter reports words that docs/reference/style.md lists, and only in prose."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def linter() -> dict[str, Any]:
    module = runpy.run_path(str(ROOT / "docs" / "prose_lint.py"))
    style = (ROOT / "docs" / "reference" / "style.md").read_text(encoding="utf-8")
    module["CheckRegistry"]().register(module["word_list"](style))
    return module


def words(linter: dict[str, Any], text: str) -> list[tuple[int, str]]:
    lint: Callable[[str], Iterator[tuple[int, str]]] = linter["lint"]
    return [(line, message.split(":")[0]) for line, message in lint(text)]


def test_listed_words_are_reported_with_their_line(linter: dict[str, Any]) -> None:
    text = "An alarm rings.\nNobody is told.\nIt is built anew, one\nafter the other."
    assert sorted(words(linter, text)) == [
        (1, "'alarm'"),
        (2, "'told'"),
        (3, "'anew'"),
        (3, "'one after the other'"),
    ]


def test_code_and_links_are_not_prose(linter: dict[str, Any]) -> None:
    text = "Set `told`, see [this](told.md) or https://told.example/anew.\n```\ntold anew\n```\n"
    assert words(linter, text) == []


def test_docstrings_comments_and_messages_of_a_module_are_prose(linter: dict[str, Any]) -> None:
    code = (
        '"""What is told."""\n'
        "told = 1  # computed anew each time\n"
        'raise ValueError(f"{told} was not mended yet")\n'
        'query = "SELECT told FROM anew"\n'
        'key = "told"\n'
    )
    assert words(linter, linter["prose_of_module"](code)) == [
        (1, "'told'"),
        (2, "'anew'"),
        (3, "'mended'"),
    ]
