"""Discovery of the files of a source folder, and their fingerprints."""

from __future__ import annotations

import hashlib
import os
from datetime import date
from typing import TYPE_CHECKING

import pytest

from monstera_assets.source.errors import SourceError
from monstera_assets.source.fingerprint import FileFingerprint, fingerprint
from monstera_assets.source.layout import discover_source

if TYPE_CHECKING:
    from pathlib import Path

INPUTS = ("events", "users", "accounts", "product_catalog")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a source with four inputs as flat CSV files."""
    source = tmp_path / "source"
    for name in INPUTS:
        write(source, f"{name}.csv", "timestamp,user_created_at,account_created_at\n")
    return source


def write(folder: Path, relative: str, text: str = "a,b\n") -> Path:
    path = folder / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def paths(folder: Path, name: str) -> list[str]:
    return [file.relative_path for file in discover_source(folder)[name].files]


def test_flat_files_with_and_without_prefix(folder: Path) -> None:
    (folder / "users.csv").rename(folder / "seed_users.csv")
    write(folder, "workflows.parquet")
    write(folder, "README.md")
    write(folder, ".hidden.csv")
    found = discover_source(folder)
    assert set(found) == {*INPUTS, "workflows"}
    assert found.ignored == ()
    [users] = found["users"].files
    assert (users.relative_path, users.format, users.folder_date) == ("seed_users.csv", "csv", None)
    assert users.path == folder.resolve() / "seed_users.csv"
    assert found["workflows"].files[0].format == "parquet"
    assert not found["events"].by_day


def test_a_folder_is_read_recursively_and_sorted(folder: Path) -> None:
    (folder / "events.csv").unlink()
    for name in ("events/b.csv", "events/a/z.parquet", "events/a/y.csv", "events/_SUCCESS"):
        write(folder, name)
    write(folder, "events/.a.csv.crc")
    write(folder, "events/_temporary/0/part.json")
    assert paths(folder, "events") == ["events/a/y.csv", "events/a/z.parquet", "events/b.csv"]


def test_an_empty_folder_is_an_input_without_files(folder: Path) -> None:
    (folder / "events.csv").unlink()
    (folder / "events").mkdir()
    assert discover_source(folder)["events"].files == ()


def test_by_day(folder: Path) -> None:
    (folder / "events.csv").unlink()
    for day in ("2025-06-02", "2025-06-01", "2025-06-03"):
        write(folder, f"seed_events/event_date={day}/part.csv")
    write(folder, "seed_events/event_date=2025-06-01/hour=1/part.parquet")
    (folder / "seed_events" / "event_date=2025-06-04").mkdir()
    events = discover_source(folder)["events"]
    assert events.by_day
    assert [file.folder_date for file in events.files] == [
        date(2025, 6, 1),
        date(2025, 6, 1),
        date(2025, 6, 2),
        date(2025, 6, 3),
    ]
    within = events.within(date(2025, 6, 2), date(2025, 6, 9))
    assert [file.folder_date for file in within.files] == [date(2025, 6, 2), date(2025, 6, 3)]
    assert within.by_day


def test_within_keeps_all_files_that_are_not_by_day(folder: Path) -> None:
    users = discover_source(folder)["users"]
    assert users.within(date(2025, 1, 1), date(2025, 1, 1)) == users


def test_the_folder_itself_may_be_reached_by_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert paths(tmp_path / "link", "users") == ["users.csv"]


def test_a_link_inside_the_folder_is_followed(folder: Path) -> None:
    write(folder, "archive/users-2025.csv")
    (folder / "users.csv").unlink()
    (folder / "users.csv").symlink_to(folder / "archive" / "users-2025.csv")
    assert paths(folder, "users") == ["users.csv"]


def expect(folder: Path, *parts: str) -> None:
    with pytest.raises(SourceError) as caught:
        discover_source(folder)
    for part in parts:
        assert part in str(caught.value)


def test_no_such_folder(tmp_path: Path) -> None:
    expect(tmp_path / "nowhere", "nowhere", "does not exist")


def test_not_a_folder(tmp_path: Path) -> None:
    expect(write(tmp_path, "users.csv"), "users.csv", "not a folder")


def test_missing_inputs_are_all_named(folder: Path) -> None:
    (folder / "users.csv").unlink()
    assert "users" not in discover_source(folder)
    (folder / "events.csv").unlink()
    expect(folder, "does not contain the input events. Add events.csv, events.parquet or a folder")


@pytest.mark.parametrize("second", ["seed_events.csv", "events.parquet", "events/a.csv"])
def test_an_input_that_is_there_twice(folder: Path, second: str) -> None:
    write(folder, second)
    expect(folder, "Found 2 files or folders", "events", "events.csv", second.partition("/")[0])


@pytest.mark.parametrize("name", ["workflows.xlsx", "seed_workflows.csv.bz2", "workflows.txt"])
def test_data_in_another_form_is_not_passed_over(folder: Path, name: str) -> None:
    write(folder, name)
    expect(folder, name, "workflows.parquet")


@pytest.mark.parametrize(
    "name",
    ["a.csv", "a.CSV", "a.tsv", "a.csv.gz", "a.jsonl.zst", "a.ndjson", "a.json", "a.JSON.GZ"],
)
def test_text_in_any_form(folder: Path, name: str) -> None:
    write(folder, name.replace("a.", "workflows."))
    [file] = discover_source(folder)["workflows"].files
    assert file.format == ("csv" if "sv" in name.lower() else "json")
    ending = name.lower().rpartition(".")[2]
    assert file.compression == {"gz": "gzip", "zst": "zstd"}.get(ending, "none")


@pytest.mark.parametrize("name", ["a.xlsx", "a.parquet.gz", "part-0001", "a.avro"])
def test_another_file_type_inside_an_input(folder: Path, name: str) -> None:
    write(folder, f"workflows/{name}")
    expect(folder, f"workflows/{name}", "is not CSV, JSON lines or Parquet. Convert the file")


def test_other_files_inside_an_input_are_named(folder: Path) -> None:
    write(folder, "workflows/README.md")
    write(folder, "workflows/a.csv.bak")
    assert [path for path, _ in discover_source(folder).ignored] == [
        "workflows/README.md",
        "workflows/a.csv.bak",
    ]


@pytest.mark.parametrize(
    "name",
    ["events_2025_07.csv", "Events.csv", "event.parquet", "events.csv.bak", "events (1).csv",
     "old_events.jsonl", "events.md", "events_archive/a.csv", "events_old.xlsx", "seed_event.csv"],
)  # fmt: skip
def test_what_looks_like_an_input_that_is_read_is_named(folder: Path, name: str) -> None:
    write(folder, name)
    [ignored] = discover_source(folder).ignored
    assert ignored.path == name.partition("/")[0]
    assert "looks like the input events, which is read from events.csv" in ignored.reason


@pytest.mark.parametrize(
    "name",
    ["Workflows.csv", "workflow.csv", "workflows_2025.parquet", "workflow/a.csv", "WORKFLOWS.xlsx",
     "seed-workflows.csv"],
)  # fmt: skip
def test_what_could_be_a_missing_input_is_refused(folder: Path, name: str) -> None:
    write(folder, name)
    expect(folder, name.partition("/")[0], "looks like the input workflows, which is missing")


def test_notes_about_a_missing_input_are_named(folder: Path) -> None:
    write(folder, "workflows.md")
    [ignored] = discover_source(folder).ignored
    assert "looks like the input workflows, but is not CSV" in ignored.reason


@pytest.mark.parametrize(
    ("mark", "kind", "how"),
    [("_delta_log/0.json", "Delta Lake", "delta_scan('workflows')"),
     ("metadata/v1.metadata.json", "Iceberg", "iceberg_scan('workflows')"),
     (".hoodie/hoodie.properties", "Hudi", "with Spark")],
)  # fmt: skip
def test_a_table_format_is_refused(folder: Path, mark: str, kind: str, how: str) -> None:
    write(folder, "workflows/part-0.parquet")
    write(folder, f"workflows/{mark}")
    expect(folder, f"The folder workflows uses the {kind} format", "Export the current rows", how)


def test_files_by_day_mixed_with_others(folder: Path) -> None:
    write(folder, "workflows/event_date=2025-06-01/a.csv")
    write(folder, "workflows/b.csv")
    expect(folder, "workflows contains event_date= folders", "workflows/b.csv")


@pytest.mark.parametrize("day", ["2025-13-01", "20250601", "2025-6-1", "", "2025-W01-1"])
def test_an_unreadable_day(folder: Path, day: str) -> None:
    (folder / "workflows" / f"event_date={day}").mkdir(parents=True)
    expect(folder, f"event_date={day}", "event_date=YYYY-MM-DD")


def test_a_day_inside_of_another_day(folder: Path) -> None:
    (folder / "workflows/event_date=2025-06-01/event_date=2025-06-02").mkdir(parents=True)
    expect(folder, "event_date=2025-06-02", "another day")


def test_a_file_that_leads_outside(folder: Path, tmp_path: Path) -> None:
    (folder / "users.csv").unlink()
    (folder / "users.csv").symlink_to(write(tmp_path, "secret.csv"))
    expect(folder, "users.csv", "points outside the source folder")


@pytest.mark.parametrize("name", ["workflows", "workflows/part"])
def test_a_folder_that_leads_outside(folder: Path, tmp_path: Path, name: str) -> None:
    write(tmp_path, "elsewhere/a.csv")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to(tmp_path / "elsewhere")
    expect(folder, name, "points outside the source folder")


@pytest.mark.parametrize("name", ["users.csv", "workflows", "workflows/a.csv"])
def test_a_broken_link(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to(folder / "gone.csv")
    expect(folder, name, "broken link")


def test_a_link_that_goes_in_circles(folder: Path) -> None:
    write(folder, "workflows/a.csv")
    (folder / "workflows" / "again").symlink_to(folder / "workflows")
    expect(folder, "workflows/again", "links back to itself")


def test_a_folder_with_the_name_of_a_file(folder: Path) -> None:
    (folder / "workflows.csv").mkdir()
    expect(folder, "workflows.csv", "not a regular file")


def test_a_pipe_is_not_opened(folder: Path) -> None:
    os.mkfifo(folder / "workflows.csv")
    expect(folder, "workflows.csv", "not a regular file")


def test_a_file_that_cannot_be_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    expect(folder, "events.csv", "Permission denied", "Check")


def test_a_fingerprint(folder: Path) -> None:
    text = "x" * 3_000_000
    write(folder, "users.csv", text)
    [file] = discover_source(folder)["users"].files
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert fingerprint(file) == FileFingerprint("users.csv", 3_000_000, digest)


def test_no_fingerprint_of_a_file_that_changed_or_went(folder: Path) -> None:
    [file] = discover_source(folder)["users"].files
    file.path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(SourceError, match=r"users\.csv has changed"):
        fingerprint(file)
    file.path.unlink()
    with pytest.raises(SourceError, match=r"users\.csv cannot be read"):
        fingerprint(file)
