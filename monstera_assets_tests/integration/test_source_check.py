"""`monstera check` on small sources. Expected numbers are counted by hand."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from monstera_assets.operations.source_check import check_source
from monstera_assets.operations.source_findings import Finding, SourceCheck
from monstera_assets.settings import Settings
from monstera_assets_tests.helpers.command_line import SEEDS, in_this_process, monstera
from monstera_assets_tests.helpers.source_files import Texts, write_source
from monstera_assets_tests.integration.test_odd_sources import (
    ACCOUNT,
    EVENT,
    FAMILY,
    FIRST,
    RUN_DAYS,
    USER,
    VIDEO,
    as_parquet,
    events_of,
    write_faults,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def source(folder: Path, **inputs: Sequence[Texts]) -> Path:
    """Write a source with one event per day, with other rows for some inputs."""
    rows: dict[str, Sequence[Texts]] = {
        "accounts": [ACCOUNT],
        "users": [USER],
        "product_catalog": [FAMILY, VIDEO],
        "events": events_of(FIRST, RUN_DAYS),
    }
    return write_source(folder / "source", {**rows, **inputs})


def checked(folder: Path, **settings: object) -> SourceCheck:
    return check_source(Settings.model_validate({"source": folder, **settings}), NOW)


def kinds(findings: Sequence[Finding]) -> list[tuple[str, str | None, str | None, int | None]]:
    return [(each.kind, each.input, each.reason, each.rows) for each in findings]


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> SourceCheck:
    """Return the check of a source with all faults of content."""
    folder = tmp_path_factory.mktemp("faults")
    write_faults(folder)
    return checked(folder)


def test_rejections_and_corrections_are_counted(faults: SourceCheck) -> None:
    assert kinds(faults.findings) == [
        ("rejected", "events", "unknown_user", 3),
        ("rejected", "events", "unreadable_timestamp", 2),
        ("rejected", "events", "before_user_creation", 1),
        ("rejected", "events", "user_rejected", 1),
        ("rejected", "users", "before_earliest_event_date", 1),
        ("corrected", "events", "event_without_product", 6),
        ("corrected", "accounts", "unknown_subscription_tier", 2),
        ("corrected", "events", "email_in_metadata", 1),
        ("corrected", "events", "flag_differs_from_catalog", 1),
        ("corrected", "events", "qualifying_type_in_no_list", 1),
    ]
    assert all(each.remedy for each in faults.findings)


def test_a_rejection_has_an_example_and_a_remedy(faults: SourceCheck) -> None:
    found = faults.findings[0]
    assert found.message == "3 of 63 rows (4.8%) rejected: unknown_user"
    assert found.share == pytest.approx(3 / 63)
    assert found.example_file == "events.csv"
    assert json.loads(found.example or "")["entity_id"] == "101.0"
    assert found.remedy == "Use the id 101 in all inputs."


def test_rows_are_counted_by_input(faults: SourceCheck) -> None:
    rows = {each.input: (each.rows_read, each.rows_accepted) for each in faults.inputs}
    assert rows == {
        "events": (63, 56),
        "users": (8, 7),
        "accounts": (5, 5),
        "product_catalog": (7, 7),
        "subscription_events": (1, 1),
    }


def test_event_types_and_why_they_qualify(faults: SourceCheck) -> None:
    assert [tuple(dict(each).values()) for each in faults.event_types] == [
        ("video_created", 49, 49 / 56, 4, 9, 49, ["catalog"]),
        ("draft_created", 5, 5 / 56, 1, 1, 5, ["catalog"]),
        ("video_edited", 1, 1 / 56, 1, 1, 1, ["catalog"]),
        ("video_shared", 1, 1 / 56, 1, 1, 1, ["flag"]),
    ]


def test_repeated_and_superseded_rows_are_no_finding(tmp_path: Path) -> None:
    folder = source(tmp_path, users=[USER, USER, {**USER, "country": "CA"}])
    event = {**EVENT, "timestamp": "2025-06-03 10:00:00"}
    write_source(
        folder, {"events": [*events_of(FIRST, 2), event, event, {**event, "session_id": "s"}]}
    )
    check = checked(folder)
    assert check.findings == []
    assert [tuple(dict(each).values()) for each in check.inputs[:2]] == [
        ("events", ["CSV (comma)"], 1, 5, 3, 1, 1, 0, 0),
        ("users", ["CSV (comma)"], 1, 3, 1, 1, 1, 0, 0),
    ]


def test_what_qualifies_is_stated_nowhere(tmp_path: Path) -> None:
    """The smallest source contains only events of users."""
    row = {name: EVENT[name] for name in ("entity_id", "event_type", "timestamp")}
    folder = write_source(tmp_path, {"events": [row, {**row, "entity_id": "bob"}]})
    check = checked(folder)
    assert kinds(check.findings) == [("corrected", "events", "qualifies_by_default", 2)]
    [each] = check.event_types
    assert (each.users, each.qualifying_events, each.because) == (2, 2, ["nothing"])


def test_no_event_qualifies(tmp_path: Path) -> None:
    flags = {"is_qualifying_event": "false", "is_activation_event": ""}
    events = [{**EVENT, **flags, "event_type": "page_viewed"}]
    folder = source(tmp_path, events=events)
    assert kinds(checked(folder).findings) == [("no_event_qualifies", "events", None, 1)]
    folder = source(tmp_path, events=[{**each, "timestamp": "soon"} for each in events])
    assert [each.kind for each in checked(folder).findings] == ["rejected", "no_events"]


def test_errors_of_inputs_do_not_hide_other_findings(tmp_path: Path) -> None:
    """Without its broken inputs, the source is loaded as if it had none of them."""
    folder = source(
        tmp_path,
        users=[{"user id": "ada", "created_at": "2025-06-01"}],
        events=[*events_of(FIRST, 2), {**EVENT, "timestamp": "2025-06-10 10:00:00 BST"}],
    )
    (folder / "accounts.parquet").write_bytes(b"PAR1")
    (folder / "workflows.parquet").write_bytes(b"PAR1")
    findings = checked(folder).findings
    assert [(each.kind, each.input) for each in findings] == [
        ("source_error", "accounts"),
        ("source_error", "users"),
        ("source_error", "workflows"),
        ("rejected", "events"),
    ]
    texts = [each.message for each in findings]
    assert "input accounts: accounts.csv, accounts.parquet." in texts[0]
    assert texts[1].endswith(
        "is missing required columns: user_id, user_created_at. Add columns with these names."
        " Similar columns: user id for user_id, created_at for user_created_at."
    )
    assert "workflows.parquet cannot be read as Parquet" in texts[2]


def test_events_that_cannot_be_read(tmp_path: Path) -> None:
    folder = source(tmp_path, users=[{**USER, "user_created_at": "soon"}])
    as_parquet(folder / "events.parquet", events_of(FIRST, 3_000))
    (folder / "events.csv").unlink()
    content = bytearray((folder / "events.parquet").read_bytes())
    content[100:2_000] = bytes(1_900)
    (folder / "events.parquet").write_bytes(content)
    check = checked(folder)
    assert [(each.kind, each.input) for each in check.findings] == [
        ("source_error", "events"),
        ("rejected", "users"),
    ]
    assert check.first_day is check.last_day is None


@pytest.mark.parametrize(("timezone", "warns"), [("UTC", True), ("America/Los_Angeles", False)])
def test_the_time_zone_of_the_night(tmp_path: Path, timezone: str, *, warns: bool) -> None:
    """63 events in each hour but those from 8:00 to 16:00 UTC, whose middle is 4:00 at UTC-8."""
    hours = [hour for hour in range(24) if not 8 <= hour < 16]
    events = [
        {
            **EVENT,
            "event_id": f"{day} {hour}",
            "timestamp": f"{FIRST + timedelta(day)} {hour:02}:30:00",
        }
        for day in range(1, 64)
        for hour in hours
    ]
    findings = checked(source(tmp_path, events=events), timezone=timezone).findings
    assert [each.kind for each in findings] == ["timezone"] * warns
    if warns:
        assert "start at 10:00 UTC and contain 0.0% of the events" in findings[0].message
        assert (
            "A likely reason is that most users are in a time zone near UTC-8"
            in findings[0].message
        )


def test_events_before_and_after_the_range(tmp_path: Path) -> None:
    rows = [*events_of(FIRST, RUN_DAYS), {**EVENT, "timestamp": "2026-01-01 00:00:00"}]
    check = checked(source(tmp_path, events=rows), start_date="2025-06-03")
    assert (str(check.first_day), str(check.last_day)) == ("2025-06-03", "2025-06-09")
    assert (check.events_before, check.events_after) == (2, 1)
    assert [each.kind for each in check.findings] == ["isolated_last_day"]


# ---------------------------------------------------------------- the command


def test_without_findings_the_exit_code_is_0_and_no_file_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source, and the folder of the command, are read-only."""
    folder, temporary = source(tmp_path), tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = sorted(tmp_path.rglob("*"))
    for each in (folder, tmp_path):
        each.chmod(0o555)
    try:
        done = in_this_process(monkeypatch, tmp_path, "check", "--source", str(folder))
    finally:
        for each in (folder, tmp_path):
            each.chmod(0o755)
    assert done.code == 0, done.out
    assert "Findings: none" in done.out
    assert sorted(tmp_path.rglob("*")) == before


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        *events_of(FIRST, 2),
        {**EVENT, "entity_id": "ADA", "metadata": '{"to": "ada@example.com"}'},
    ]
    done = in_this_process(
        monkeypatch, tmp_path, "check", "--source", str(source(tmp_path, events=rows))
    )
    assert done.code == 1
    assert [re.sub(" +", " ", line).strip() for line in done.out.splitlines()] == [
        f"{tmp_path}/source: events from 2025-06-01 to 2025-06-02 (UTC)",
        "",
        "input format files rows accepted repeated superseded rejected",
        "events CSV (comma) 1 3 2 0 0 1",
        "users CSV (comma) 1 1 1 0 0 0",
        "accounts CSV (comma) 1 1 1 0 0 0",
        "product_catalog CSV (comma) 1 2 2 0 0 0",
        "",
        "Findings: 1",
        "events: 1 of 3 rows (33.3%) rejected: unknown_user",
        'Example in events.csv: {"event_id": "e", "entity_id": "ADA", "entity_type": "user",'
        ' "event_type": "video_created", "timestamp": "2025-06-20 10:00:00", "location": "web_app",'
        ' "is_qualifying_event": "true", "is_activation_event": "true", "product_id": "video",'
        ' "metadata": "{\\"to\\": \\"[email]\\"}"}',
        "Remedy: Use the id ada in all inputs.",
        "",
        "event type events share users days qualifies",
        "video_created 2 100.0% 1 2 yes (catalog list)",
    ]


def test_no_address_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """People may be identified by their address, and a file may have no header."""
    address = "Ada@example.com"
    folder = source(
        tmp_path,
        users=[{**USER, "user_id": address.lower()}],
        events=[{**EVENT, "entity_id": address}],
        accounts=[{**ACCOUNT, "account_id": address, "subscription_tier": "free"}, ACCOUNT],
    )
    (folder / "workflows.csv").write_text("workflow_id@example.com,a,b\n", encoding="utf-8")
    done = in_this_process(monkeypatch, tmp_path, "check", "--source", str(folder))
    assert done.out.count("[email]") == 3
    assert "@" not in done.out


def test_json_has_stable_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = source(tmp_path, events=[EVENT, {**EVENT, "event_id": "", "location": "moon"}])
    done = in_this_process(monkeypatch, tmp_path, "check", "--source", str(folder), "--json")
    assert done.code == 1
    document: Mapping[str, Any] = json.loads(done.out)
    assert {**document, "findings": [], "inputs": document["inputs"][:1]} == {
        "source": str(folder),
        "timezone": "UTC",
        "first_day": "2025-06-20",
        "last_day": "2025-06-20",
        "events_before": 0,
        "events_after": 0,
        "inputs": [
            {
                "input": "events",
                "formats": ["CSV (comma)"],
                "files": 1,
                "rows_read": 2,
                "rows_accepted": 1,
                "rows_repeated": 0,
                "rows_superseded": 0,
                "rows_merged": 0,
                "rows_rejected": 1,
            }
        ],
        "event_types": [
            {
                "event_type": "video_created",
                "events": 1,
                "share": 1.0,
                "users": 1,
                "days": 1,
                "qualifying_events": 1,
                "because": ["catalog"],
            }
        ],
        "findings": [],
    }
    [found] = document["findings"]
    assert json.loads(found.pop("example"))["location"] == "moon"
    assert found == {
        "kind": "rejected",
        "input": "events",
        "reason": "unknown_location",
        "rows": 1,
        "share": 0.5,
        "example_file": "events.csv",
        "message": "1 of 2 rows (50.0%) rejected: unknown_location",
        "remedy": "Use web_app, mobile_app, desktop_app or api, or leave location empty.",
    }


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_folder_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "file").write_text("")
    done = in_this_process(monkeypatch, tmp_path, "check", "--source", str(tmp_path / name))
    assert (done.code, done.out) == (2, "")
    assert name in done.err


def test_the_seeds_have_no_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument, the command checks the configured source."""
    done = in_this_process(monkeypatch, tmp_path, "check", source=SEEDS)
    assert done.code == 0, done.out


@pytest.mark.slow
def test_a_run_that_rejects_most_rows_starts_with_the_findings(tmp_path: Path) -> None:
    folder = source(tmp_path, events=events_of(FIRST, RUN_DAYS, entity_id="ADA"))
    run = monstera(tmp_path, "run", source=folder)
    assert run.code == 1, run.out
    _, _, shown = run.out.partition("Findings: ")
    lines = [line.strip() for line in shown.splitlines()]
    assert lines[:2] == ["2", "events: 9 of 9 rows (100.0%) rejected: unknown_user"]
    assert lines[2].startswith('Example in events.csv: {"event_id": "ADA_0", "entity_id": "ADA"')
    assert lines[3] == "Remedy: Use the id ada in all inputs."
    assert lines[4] == "events: No events were accepted."
    assert lines[6].split()[:2] == ["table", "rows"]


@pytest.mark.slow
def test_a_run_with_one_event_in_the_wrong_year_shows_the_finding_first(tmp_path: Path) -> None:
    rows = [*events_of(FIRST, RUN_DAYS), {**EVENT, "timestamp": "2025-10-01 00:00:00"}]
    run = monstera(tmp_path, "run", source=source(tmp_path, events=rows))
    assert run.code == 0, run.out
    _, _, shown = run.out.partition("Findings: ")
    lines = [line.strip() for line in shown.splitlines()]
    assert lines[1].startswith(
        "events: The last day with events, 2025-10-01 (events: 1), is 114 days"
    )
    assert lines[2].startswith("Remedy: ")


def test_a_run_that_cannot_read_the_source_starts_with_all_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = source(tmp_path, users=[{"name": "ada"}], events=[{**EVENT, "location": "moon"}])
    run = in_this_process(monkeypatch, tmp_path, "run", source=folder)
    assert run.code == 2
    assert run.out.startswith("Findings: 3\n  users: users.csv is missing required columns")
    assert "events: 1 of 1 rows (100.0%) rejected: unknown_location" in run.out
    [line] = run.err.splitlines()
    assert line.startswith("monstera: users.csv is missing required columns: user_id")


def test_a_file_next_to_the_input_is_named(tmp_path: Path) -> None:
    folder = write_source(source(tmp_path), {"events_2025_07": events_of(FIRST, 1)})
    [found] = checked(folder).findings
    assert found.kind == "ignored_file"
    assert found.message.startswith(
        "events_2025_07.csv is not read: it looks like the input events"
    )


def test_a_delta_table_does_not_hide_other_findings(tmp_path: Path) -> None:
    folder = source(tmp_path, accounts=[{**ACCOUNT, "account_created_at": ""}])
    (folder / "events.csv").unlink()
    (folder / "events" / "_delta_log").mkdir(parents=True)
    findings = checked(folder).findings
    assert [(each.kind, each.input) for each in findings] == [
        ("source_error", "events"),
        ("rejected", "accounts"),
        ("rejected", "users"),
    ]
    assert "uses the Delta Lake format" in findings[0].message


def test_a_missing_column_is_named_with_the_most_similar_one(tmp_path: Path) -> None:
    """Columns that have a default can be missing, so their names may be misspelled unnoticed."""
    folder = source(tmp_path)
    text = (folder / "events.csv").read_text(encoding="utf-8")
    text = text.replace("product_id", "Product-ID", 1).replace("location", "referrer", 1)
    (folder / "events.csv").write_text(text, encoding="utf-8")
    found = [each for each in checked(folder).findings if each.kind == "similar_column"]
    assert [(each.message, each.remedy) for each in found] == [
        (
            "The column product-id in events.csv is not read, and the column product_id is missing.",
            "If product-id contains the values for product_id, rename the column to product_id.",
        )
    ]


def test_a_delimiter_can_be_set(tmp_path: Path) -> None:
    folder = source(tmp_path)
    assert {each.formats[0] for each in checked(folder).inputs} == {"CSV (comma)"}
    for delimiter in (";", "tab"):
        found = checked(folder, csv_delimiter=delimiter).findings
        assert {each.kind for each in found[:4]} == {"source_error"}
    with pytest.raises(ValueError, match="is not a comma, semicolon, pipe or `tab`"):
        checked(folder, csv_delimiter=":")


@pytest.mark.parametrize(("delimiter", "name"), [(";", "semicolon"), ("\t", "tab"), ("|", "pipe")])
def test_delimiters_and_the_case_of_headers_are_no_finding(
    tmp_path: Path, delimiter: str, name: str
) -> None:
    folder = source(tmp_path)
    for input_name in ("users", "events"):
        header, _, rows = (folder / f"{input_name}.csv").read_text().partition("\n")
        text = f"{header.upper()}\n{rows}".replace(",", delimiter)
        (folder / f"{input_name}.csv").write_text(text, encoding="utf-8")
    found = checked(folder)
    assert found.findings == []
    assert [each.formats for each in found.inputs[:2]] == [[f"CSV ({name})"]] * 2
