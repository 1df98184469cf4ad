"""The seeds' segments and workflow runs are those computed by hand in seeds/README.md."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from monstera_assets.lifecycle.segments import DIMENSIONS
from monstera_assets_tests.helpers.markdown_page import section
from monstera_assets_tests.integration.example_runs import SeedsRun
from monstera_assets_tests.unit.test_seeds import LAST, SEEDS, read

SEGMENTS = section((SEEDS / "README.md").read_text(encoding="utf-8"), "Segments").rows
HEADINGS = {
    "engagement_intensity": "engagement",
    "value_realization": "value",
    "product_breadth": "breadth",
    "journey_stage": "stage",
    "feature_adoption": "features",
    "collaboration_type": "collaboration",
    "temporal_pattern": "pattern",
}

# By hand from seed_events.csv: user, workflow, instance, steps reached, status.
RUNS = {
    ("usr_15", "video_publishing", "prj_01", 1, "abandoned"),
    ("usr_13", "video_publishing", "prj_02", 1, "abandoned"),
    ("usr_11", "design_handoff", "ses_015", 1, "abandoned"),
    ("usr_03", "design_handoff", "prj_03", 2, "completed"),
    ("usr_05", "video_publishing", "prj_04", 3, "completed"),
    ("usr_19", "design_handoff", "ses_027", 1, "abandoned"),
    ("usr_02", "video_publishing", "prj_05", 2, "abandoned"),
    ("usr_18", "video_publishing", "prj_06", 1, "open"),
}


@pytest.fixture(scope="module")
def connection(seeds_run: SeedsRun) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(seeds_run.database), read_only=True) as connection:
        yield connection


def test_the_page_has_every_dimension_of_every_user() -> None:
    assert list(HEADINGS) == [dimension.name for dimension in DIMENSIONS]
    assert [row["user"] for row in SEGMENTS] == [row["user_id"] for row in read("users")]


@pytest.mark.parametrize(
    ("table", "day"),
    [
        ("silver_behavioral_segments", "as_of_date"),
        ("silver_user_segment_history", "snapshot_date"),
    ],
)
def test_segments_are_the_pages(
    connection: duckdb.DuckDBPyConnection, table: str, day: str
) -> None:
    found = connection.execute(
        f"SELECT user_id, composite_segment, {', '.join(HEADINGS)} FROM silver.{table}"
        f" WHERE {day} = ? ORDER BY user_id",
        [LAST],
    ).fetchall()
    assert found == [
        (
            row["user"],
            "struggling_new_user" if row["user"] == "usr_02" else "standard",
            *(row[heading] for heading in HEADINGS.values()),
        )
        for row in SEGMENTS
    ]


def test_runs_are_those_worked_out_by_hand(connection: duckdb.DuckDBPyConnection) -> None:
    found = connection.execute(
        "SELECT user_id, workflow_id, instance_id, steps_reached, status"
        " FROM silver.silver_workflow_runs"
    ).fetchall()
    assert len(found) == len(RUNS)
    assert set(found) == RUNS
