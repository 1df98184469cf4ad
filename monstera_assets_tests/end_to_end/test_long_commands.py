"""Commands of pages that take minutes run as shown, and give the figures on the page."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from monstera_assets_tests.end_to_end.test_documentation_commands import BIN, PAGES, steps
from monstera_assets_tests.helpers.command_line import environment, query
from monstera_assets_tests.helpers.markdown_page import Row, sections

pytestmark = pytest.mark.slow

CHURN = "docs/explanation/churn.md"
RECOMMENDATIONS = "docs/explanation/recommendations.md"
COMPANY = "docs/reference/synthetic.md"


def run_commands(page: str, folder: Path) -> Path:
    """Run the page's `generate` and the `run` after it, and return the database."""
    marked = [step for step in steps(page, marked=True) if step not in steps(page)]
    generate, run = marked[:2]
    assert [generate.words[:2], run.words[:2]] == [["monstera", "generate"], ["monstera", "run"]]
    for step in (generate, run):
        subprocess.run(
            [BIN / "monstera", *step.words[1:]], cwd=folder, env=environment(), check=True
        )
    return folder / run.words[run.words.index("--database") + 1]


def first_table_after_commands(page: str) -> list[Row]:
    """Return the table that follows the page's `generate` command."""
    [section] = [each for each in sections(PAGES[page]) if "monstera generate --users" in each.body]
    body = section.body.partition("monstera generate --users")[2]
    return sections(f"# After\n{body}")[0].tables[0]


def test_churn_figures(tmp_path: Path) -> None:
    database = run_commands(CHURN, tmp_path)
    found = query(
        database,
        "SELECT predictor, auc, brier_score, log_loss, top_tenth_lift, is_published"
        " FROM gold.gold_churn_model_evaluation"
        " WHERE entity = 'user' AND evaluation_date IS NULL AND decile = 0",
    )
    expected = {
        (
            f"{predictor.replace('_', ' ')}{' (published)' if is_published else ''}",
            *(f"{figure:.3f}" for figure in (auc, brier, loss)),
            f"{lift:.2f}",
        )
        for predictor, auc, brier, loss, lift, is_published in found
    }
    assert {tuple(row.values()) for row in first_table_after_commands(CHURN)} == expected


def test_recommendation_figures(tmp_path: Path) -> None:
    database = run_commands(RECOMMENDATIONS, tmp_path)
    found = query(
        database,
        "SELECT predictor, hit_rate_at_1, hit_rate_at_3, mean_reciprocal_rank, is_published"
        " FROM gold.gold_recommendation_evaluation WHERE evaluation_date IS NULL",
    )
    expected = {
        (
            f"{predictor}{' (published)' if is_published else ''}",
            *(f"{figure:.3f}" for figure in figures),
        )
        for predictor, *figures, is_published in found
    }
    table = first_table_after_commands(RECOMMENDATIONS)
    assert {tuple(row.values()) for row in table} == expected


def test_runs_accept_all_rows_of_the_company(tmp_path: Path) -> None:
    database = run_commands(COMPANY, tmp_path)
    tables = ("bronze_rejected_events", "bronze_rejected_entities")
    assert [query(database, f"SELECT count(*) FROM bronze.{table}") for table in tables] == [
        [(0,)],
        [(0,)],
    ]
