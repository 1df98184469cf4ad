"""The checks of the ledger fail if rows are uncounted or lost, and for nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pytest

from monstera_assets.checks.rules import Finding
from monstera_assets.imports import landing
from monstera_assets.imports.awaiting import awaiting_import
from monstera_assets.imports.importer import run_import
from monstera_assets.imports.ledger_checks import evaluate, ledger_checks
from monstera_assets.settings import Settings
from monstera_assets.source.errors import SourceError
from monstera_assets_tests.helpers.command_line import MONSTERA, environment
from monstera_assets_tests.helpers.import_samples import (
    SAMPLES,
    STRIPE,
    landed_bytes,
    landed_rows,
    settings_of,
)

BLOCKING = {"rows_add_up", "landed_rows_are_in_the_source", "most_rows_are_used"}


def calls(count: int, **values: Any) -> bytes:
    """Return Segment calls with an id each, one a line."""
    common = {
        "type": "track",
        "event": "Document Created",
        "userId": "u_1",
        "anonymousId": "d_1",
        "timestamp": "2025-06-02T10:00:00Z",
        "receivedAt": "2025-06-02T10:00:01Z",
        "properties": {},
        **values,
    }
    rows = ({**common, "messageId": f"{values}{number}"} for number in range(count))
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def imported(folder: Path, *files: bytes) -> Settings:
    """Import files of Segment, which are named 0, 1 and so on."""
    raw = folder / "raw"
    raw.mkdir()
    for number, content in enumerate(files):
        (raw / str(number)).write_bytes(content)
    settings = settings_of(folder / "source", {"kind": "segment", "path": str(raw)})
    run_import(settings)
    return settings


def failing(settings: Settings) -> dict[str, Finding]:
    checks = ledger_checks(settings)
    assert {check.name for check in checks if check.blocking} == BLOCKING
    findings = (evaluate(check, settings.source) for check in checks)
    return {finding.rule: finding for finding in findings if not finding.passed}


def rewrite_ledger(settings: Settings, columns: str) -> None:
    path = settings.source / landing.LEDGER
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE ledger AS SELECT * REPLACE ({columns}) FROM '{path}'")
        connection.execute(f"COPY ledger TO '{path}' (FORMAT parquet)")


@pytest.mark.parametrize("samples", [["posthog-parquet"], ["plain"], ["segment", "stripe"]])
def test_complete_exports_pass(samples: list[str], tmp_path: Path) -> None:
    chosen = [STRIPE if name == "stripe" else SAMPLES[name] for name in samples]
    settings = settings_of(tmp_path / "source", *(each.import_table() for each in chosen))
    run_import(settings)
    assert failing(settings) == {}


@pytest.mark.parametrize("column", ["rows_read", "landed", "described", "malformed", "anonymous"])
def test_a_row_that_is_not_counted_fails(tmp_path: Path, column: str) -> None:
    settings = imported(tmp_path, calls(3) + calls(2, userId=None, anonymousId="d_2"))
    rewrite_ledger(settings, f"{column} + 1 AS {column}")
    finding = failing(settings)["rows_add_up"]
    counts = (5, 6) if column == "rows_read" else (6, 5)
    assert finding.examples == (("counted rows of 0", *counts),)
    assert finding.observed == "counted rows of 0: {}, expected {}.".format(*counts)


def test_a_removed_day_fails(tmp_path: Path) -> None:
    later = calls(4, timestamp="2025-06-03T10:00:00Z")
    settings = imported(tmp_path, calls(3), later)
    (settings.source / "events" / "event_date=2025-06-03" / "events.parquet").unlink()
    [(name, finding)] = failing(settings).items()
    assert name == "landed_rows_are_in_the_source"
    assert finding.examples == (("events in the source", 3, 7),)
    run_import(settings)
    assert failing(settings) == {}


def test_a_missing_ledger_fails_all_checks(tmp_path: Path) -> None:
    settings = imported(tmp_path, calls(3))
    (settings.source / landing.LEDGER).unlink()
    findings = failing(settings)
    assert len(findings) == len(ledger_checks(settings))
    assert all("could not be evaluated" in finding.note for finding in findings.values())


@pytest.mark.parametrize(
    ("good", "faulty", "expected"),
    [
        (60, 60, {"few_rows_are_lost"}),
        (60, 61, {"few_rows_are_lost", "most_rows_are_used"}),
        (57, 3, set()),  # 5% are allowed
        (56, 4, {"few_rows_are_lost"}),
        (28, 1, set()),
        (9, 1, set()),  # fewer than 30 rows
    ],
)
def test_malformed_rows_in_one_of_two_files(
    tmp_path: Path, good: int, faulty: int, expected: set[str]
) -> None:
    most = calls(3_000, event="Board Created")  # the import as a whole loses little
    settings = imported(tmp_path, calls(good) + calls(faulty, timestamp="soon"), most)
    assert failing(settings).keys() == expected
    if expected:
        finding = failing(settings)["few_rows_are_lost"]
        assert finding.examples == (("0: malformed", round(faulty / (good + faulty), 9), 0.05),)


def test_losing_most_rows_of_a_small_import_fails(tmp_path: Path) -> None:
    settings = imported(tmp_path, calls(2) + calls(3, timestamp="soon"))
    finding = failing(settings)["most_rows_are_used"]
    assert finding.examples == (("import.0 (segment): malformed", 0.6, 0.5),)


def test_landing_nothing_fails(tmp_path: Path) -> None:
    settings = imported(tmp_path, calls(4, userId=None))
    finding = failing(settings)["most_rows_are_used"]
    assert finding.examples == (("landed rows", 0, 1),)


def test_customers_without_an_account(tmp_path: Path) -> None:
    """No customer in the sample has the property, so nothing of Stripe lands."""
    table = STRIPE.import_table() | {"account": "customer.metadata.nothing"}
    settings = settings_of(tmp_path / "source", SAMPLES["segment"].import_table(), table)
    run_import(settings)
    finding = failing(settings)["most_rows_are_used"]
    assert [figure for figure, *_ in finding.examples] == ["import.1 (stripe): without an account"]


@pytest.mark.parametrize(("visits", "fails"), [(190, False), (191, True)])
def test_almost_only_anonymous_visits(tmp_path: Path, visits: int, *, fails: bool) -> None:
    visitor = calls(visits, userId=None, anonymousId="d_2", event="Page Viewed")
    settings = imported(tmp_path, visitor + calls(10))
    assert (failing(settings).keys() == {"users_are_known"}) is fails


def test_a_vanished_file_fails_until_a_rebuild(tmp_path: Path) -> None:
    settings = imported(tmp_path, calls(3), calls(2, event="Board Created"))
    (tmp_path / "raw" / "1").unlink()
    run_import(settings)
    [(name, finding)] = failing(settings).items()
    assert (name, finding.examples) == ("raw_files_are_present", (("1", "import.0", 2),))
    run_import(settings, rebuild=True)
    assert failing(settings) == {}


@pytest.mark.parametrize("folder_too", [False, True])
def test_an_export_whose_files_all_vanished_warns_once(tmp_path: Path, *, folder_too: bool) -> None:
    settings = imported(tmp_path, calls(3))
    rows = landed_rows(settings.source, "events")
    assert len(rows) == 3
    (tmp_path / "raw" / "0").unlink()
    if folder_too:
        (tmp_path / "raw").rmdir()
    assert awaiting_import(settings)
    assert run_import(settings).vanished == ("0",)
    assert awaiting_import(settings) is None
    assert landed_rows(settings.source, "events") == rows
    [(name, finding)] = failing(settings).items()
    assert (name, finding.examples) == ("raw_files_are_present", (("0", "import.0", 3),))

    message = "does not exist" if folder_too else "contains no files"
    with pytest.raises(SourceError, match=message):
        run_import(settings, rebuild=True)
    assert landed_rows(settings.source, "events") == rows


def test_files_of_another_tool(tmp_path: Path) -> None:
    other = b'{"user_name": "a", "score": 1}\n'
    settings = imported(tmp_path, calls(100), other)
    assert failing(settings) == {}, "a note in the same folder"
    (tmp_path / "raw" / "2").write_bytes(other * 1_000)
    run_import(settings)
    assert failing(settings).keys() == {"raw_files_are_recognized"}


def test_what_awaits_an_import(tmp_path: Path) -> None:
    settings = imported(tmp_path, calls(3))
    assert awaiting_import(settings) is None

    def is_imported(changed: Settings = settings) -> bool:
        digest = awaiting_import(changed)
        assert digest == awaiting_import(changed)
        run_import(changed)
        assert awaiting_import(changed) is None
        return digest is not None

    (tmp_path / "raw" / "1").write_bytes(calls(2, event="Board Created"))
    assert is_imported()
    (tmp_path / "raw" / "1").write_bytes(calls(1, event="Board Created"))
    assert is_imported()
    (tmp_path / "raw" / "1").unlink()
    assert is_imported()
    with (settings.source / "product_catalog.csv").open("a") as file:
        file.write("notes,Notes,workspace,product,workspace,true,2025-01-01 00:00:00,team,,,,\n")
    assert is_imported()
    assert is_imported(settings.model_copy(update={"timezone": "Asia/Tokyo"}))
    assert is_imported()
    (settings.source / landing.LEDGER).unlink()
    assert is_imported()
    shutil.rmtree(tmp_path / "raw")
    assert is_imported()


def test_two_processes_import_at_once(tmp_path: Path) -> None:
    """Both succeed, or one of them says that the other is writing. The source is that of one import."""
    alone = imported(tmp_path, *(calls(200, event=f"Board {name}") for name in "abcd"))
    text = f'source = "both"\n[[import]]\nkind = "segment"\npath = "{tmp_path / "raw"}"\n'
    (tmp_path / "monstera.toml").write_text(text, encoding="utf-8")
    settings_of(tmp_path / "both")
    processes = [
        subprocess.Popen(
            [MONSTERA, "import"],
            cwd=tmp_path,
            env=environment(),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(2)
    ]
    outcomes = [(process.communicate()[1], process.returncode) for process in processes]
    assert ("", 0) in outcomes
    for err, code in outcomes:
        assert code == 0 or "Another import is writing" in err
    assert landed_bytes(tmp_path / "both") == landed_bytes(alone.source)
