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


def tables_after_commands(page: str) -> list[list[Row]]:
    """Return the tables that follow the page's `generate` command."""
    [section] = [each for each in sections(PAGES[page]) if "monstera generate --users" in each.body]
    body = section.body.partition("monstera generate --users")[2]
    return sections(f"# After\n{body}")[0].tables


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
            f"{str(predictor).replace('_', ' ')}{' (published)' if is_published else ''}",
            *(f"{figure:.3f}" for figure in (auc, brier, loss)),
            f"{lift:.2f}",
        )
        for predictor, auc, brier, loss, lift, is_published in found
    }
    evaluation, deciles, *_ = tables_after_commands(CHURN)
    assert {tuple(row.values()) for row in evaluation} == expected
    means = query(
        database,
        "SELECT avg(churn_probability), avg(no_use_30_days_probability) FROM ("
        "SELECT *, ntile(10) OVER (ORDER BY churn_probability, user_id) AS decile"
        " FROM gold.gold_user_churn_scores AS scores"
        f" JOIN '{tmp_path}/data/churn/source/truth/user_hazards.parquet' AS truth USING (user_id)"
        " WHERE truth.date = scores.as_of_date) GROUP BY decile ORDER BY decile",
    )
    assert [list(row.values())[1:] for row in deciles] == [
        [f"{mean:.3f}" for mean in column] for column in zip(*means, strict=True)
    ]


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
    table = tables_after_commands(RECOMMENDATIONS)[0]
    assert {tuple(row.values()) for row in table} == expected


def test_runs_accept_all_rows_of_the_company(tmp_path: Path) -> None:
    database = run_commands(COMPANY, tmp_path)
    tables = ("bronze_rejected_events", "bronze_rejected_entities")
    assert [query(database, f"SELECT count(*) FROM bronze.{table}") for table in tables] == [
        [(0,)],
        [(0,)],
    ]
