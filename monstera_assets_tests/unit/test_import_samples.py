"""Each sample of an export becomes the rows that were worked out by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from monstera_assets.imports.event_rows import REASONS
from monstera_assets.imports.importer import ImportReport, computed, run_import
from monstera_assets.settings import Settings
from monstera_assets_tests.helpers.import_samples import (
    SAMPLES,
    Rows,
    Sample,
    expected_rows,
    landed_bytes,
    landed_rows,
    settings_of,
)

INPUTS = ("accounts", "users", "subscription_events", "events")

each_sample = pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)


@dataclass(frozen=True)
class Imported:
    """One import of a sample."""

    settings: Settings
    report: ImportReport


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sample], Imported]:
    """Return a function that imports a sample once. The tests do not change the source."""
    done: dict[Path, Imported] = {}

    def once(sample: Sample) -> Imported:
        if sample.raw not in done:
            source = tmp_path_factory.mktemp("imported") / "source"
            settings = settings_of(source, sample.import_table())
            done[sample.raw] = Imported(settings, run_import(settings))
        return done[sample.raw]

    return once


def _sorted(rows: Rows) -> list[list[tuple[str, str]]]:
    return sorted(sorted(row.items()) for row in rows)


@each_sample
def test_expected_rows(sample: Sample, imported: Callable[[Sample], Imported]) -> None:
    settings, report = imported(sample).settings, imported(sample).report
    for name in INPUTS:
        found = _sorted(landed_rows(settings.source, name))
        assert found == _sorted(expected_rows(sample, name)), name

    # The ledger has each raw file, and says what happened to each of its rows.
    path = settings.source / "imports.parquet"
    with duckdb.connect() as connection:
        ledger = connection.execute(
            f"SELECT raw_file, rows_read, landed + described + malformed + {' + '.join(REASONS)},"
            f" landed FROM '{path}'"
        ).fetchall()
    assert {row[0] for row in ledger} == {
        file.relative_to(sample.raw).as_posix() for file in sample.raw.rglob("*") if file.is_file()
    }
    for raw_file, read, explained, _ in ledger:
        assert read == explained, raw_file
    # Persons and rows of tables that were deleted have no event of their own.
    deletions = sum(
        not row["event_id"].startswith("deleted-")
        for row in expected_rows(sample, "subscription_events")
    )
    assert sum(row[3] for row in ledger) == len(expected_rows(sample, "events")) + deletions
    assert report.totals["rows_read"] == sum(row[1] for row in ledger)


@each_sample
def test_expected_set_aside(sample: Sample, imported: Callable[[Sample], Imported]) -> None:
    with computed(imported(sample).settings) as found:
        rows = found.connection.execute(
            "SELECT raw_events.event_id, classified.name, reason"
            " FROM classified JOIN raw_events USING (file_no, row)"
            " WHERE reason IS NOT NULL AND reason NOT IN ('malformed', 'described')"
        ).fetchall()
    expected = [tuple(row.values()) for row in expected_rows(sample, "set_aside")]
    assert sorted(rows) == sorted(expected)


@each_sample
def test_same_bytes_again_and_in_halves(
    sample: Sample, imported: Callable[[Sample], Imported], tmp_path: Path
) -> None:
    files = sorted(file for file in sample.raw.rglob("*") if file.is_file())
    at_once = imported(sample).settings
    before = landed_bytes(at_once.source)
    assert run_import(at_once).written == ()
    assert landed_bytes(at_once.source) == before

    # The later half arrives first. A table arrives with half of its rows instead.
    raw = tmp_path / "raw"
    arriving = settings_of(tmp_path / "in_halves", sample.import_table(raw))
    is_table = sample.tool == "plain"
    for half in (files if is_table else files[1::2], files):
        for file in reversed(half):
            target = raw / file.relative_to(sample.raw)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
        if is_table and half is files and not arriving.source.joinpath("events").exists():
            events = raw / "app_events.csv"
            events.write_text("".join(events.read_text().splitlines(keepends=True)[:9]))
        run_import(arriving)
    assert landed_bytes(arriving.source) == before
