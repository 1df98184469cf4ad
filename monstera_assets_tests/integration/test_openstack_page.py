"""The queries of docs/explanation/openstack.md run on the seeds and return the page's columns.

The figures of the page are not tested, because its source is too large for the repository.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from monstera_assets_tests.helpers.markdown_page import sections
from monstera_assets_tests.integration.example_runs import SeedsRun

PAGE = (Path(__file__).parents[2] / "docs" / "explanation" / "openstack.md").read_text(
    encoding="utf-8"
)
QUERIES = [
    (query, table)
    for part in sections(PAGE)
    for query, table in zip(
        re.findall(r"^```sql\n(.*?)^```$", part.body, re.DOTALL | re.MULTILINE),
        part.tables,
        strict=True,
    )
]


@pytest.fixture(scope="module")
def connection(seeds_run: SeedsRun) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(seeds_run.database), read_only=True) as connection:
        yield connection


def test_every_query_has_a_result() -> None:
    assert len(QUERIES) == 8
    assert all(table for _, table in QUERIES)


@pytest.mark.parametrize(("query", "table"), QUERIES)
def test_the_query_returns_the_columns_of_the_table(
    connection: duckdb.DuckDBPyConnection, query: str, table: list[dict[str, str]]
) -> None:
    cursor = connection.execute(query)
    assert [column[0] for column in cursor.description] == list(table[0])


def test_paths_of_the_seeds_by_the_pages_query(connection: duckdb.DuckDBPyConnection) -> None:
    """First products of the 19 users with a product, determined by hand from seeds/README.md."""
    first = dict(connection.execute(f"SELECT project, users FROM ({QUERIES[0][0]})").fetchall())
    assert first == {
        "video_studio": 5,  # usr_01, 02, 06, 13, 15
        "design_canvas": 4,  # usr_03, 11, 12, 19
        "script_writer": 3,  # usr_07, 14, 20
        "team_spaces": 3,  # usr_08, 10, 17
        "live_review": 2,  # usr_16, 18
        "insight_dashboards": 1,  # usr_05, whose slideshow was in a product retired since
        "audience_surveys": 1,  # usr_09
    }
    second = connection.execute(
        f"SELECT path, users FROM ({QUERIES[2][0]}) ORDER BY ALL"
    ).fetchall()
    assert second == [
        ("design_canvas > team_spaces", 1),  # usr_03
        ("insight_dashboards > video_studio", 1),  # usr_05
        ("live_review > video_studio", 1),  # usr_18
        ("team_spaces > insight_dashboards", 1),  # usr_08
    ]
