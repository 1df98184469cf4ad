"""After late, corrected and withdrawn rows, what is computed anew equals a build from scratch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from monstera_assets.definitions import table_assets
from monstera_assets.operations.late_data import rebuild_tags
from monstera_assets.operations.source_comparison import SourceChanges, compare_source
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.changing_source import ChangingSource
from monstera_assets_tests.integration.example_assets import errors
from monstera_assets_tests.integration.example_runs import (
    ENTITIES,
    EVENTS,
    Graph,
    assert_same,
    waves,
)
from monstera_assets_tests.random_source import DAYS, FIRST

BRONZE = (*ENTITIES, *EVENTS)
EVERYTHING = tuple(name for wave in waves() for name in wave)
CALENDAR = DateWindow(FIRST, FIRST + timedelta(days=DAYS - 1))


class Site:
    """A source, the database that is kept up to date with it, and databases built from scratch."""

    def __init__(self, folder: Path, seed: int, *, by_day: bool, only: tuple[str, ...]) -> None:
        self.folder, self.only = folder, only
        self.source = ChangingSource(folder / "source", seed, by_day=by_day)
        self.numbers = itertools.count()
        self.kept = self.graph()

    def graph(self) -> Graph:
        """A new and empty database over the source."""
        folder = self.folder / f"graph{next(self.numbers)}"
        return Graph(self.source.folder, folder / "w.duckdb", folder / "home", FIRST)

    def load(self, graph: Graph, window: DateWindow = CALENDAR) -> None:
        """Compute days without looking for changes."""
        graph.database.parent.mkdir(exist_ok=True)
        assert errors(graph.run(window, only=self.only)) == {}

    def compare(self) -> SourceChanges:
        """Compare; without silver and gold where these tables are not kept."""
        assets = table_assets() if self.only == EVERYTHING else []
        return compare_source(self.kept.settings, assets)

    def rebuild(self) -> SourceChanges:
        """Compute anew what has changed, after which nothing has."""
        changes = self.compare()
        if changes.rebuild is not None:
            assert errors(self.kept.run(only=self.only, tags=rebuild_tags(changes))) == {}
        after = self.compare()
        assert (after.rebuild, after.load) == (None, ())
        return changes

    def assert_as_from_scratch(self) -> None:
        """Compare all tables with those of a build of the same days from scratch."""
        graph = self.graph()
        with graph.instance:
            self.load(graph)
        assert_same(self.kept.contents_of(self.only), graph.contents_of(self.only))


@pytest.fixture
def made() -> Iterator[list[Site]]:
    """Collects sites, whose instances are closed at the end."""
    sites: list[Site] = []
    yield sites
    for site in sites:
        site.kept.instance.dispose()


@pytest.mark.parametrize("by_day", [False, True], ids=["single_file", "by_day"])
def test_events_equal_those_loaded_from_scratch(
    tmp_path: Path, made: list[Site], by_day: bool
) -> None:
    site = Site(tmp_path, 11 + by_day, by_day=by_day, only=BRONZE)
    made.append(site)
    site.load(site.kept)
    loaded = 0
    for _ in range(5):
        for _ in range(4):
            site.source.change()
        site.source.write_events()
        changes = site.rebuild()
        loaded += sum(map(len, changes.load))
        site.assert_as_from_scratch()
    assert 0 < loaded < 5 * 30


@pytest.mark.parametrize("by_day", [False, True], ids=["single_file", "by_day"])
def test_all_tables_equal_those_built_from_scratch(
    tmp_path: Path, made: list[Site], by_day: bool
) -> None:
    site = Site(tmp_path, 21 + by_day, by_day=by_day, only=EVERYTHING)
    made.append(site)
    site.load(site.kept)
    for _ in range(6):
        site.source.change()
    site.source.write_events()
    site.rebuild()
    site.assert_as_from_scratch()
