"""Odd exports land and are counted, or are one clear error that changes nothing."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import duckdb
import pytest

from monstera_assets.imports.importer import ImportReport, computed, run_import
from monstera_assets.imports.landing import WORK
from monstera_assets.settings import Settings, SettingsError
from monstera_assets.settings.imports import ImportSettings
from monstera_assets.source.errors import SourceError
from monstera_assets_tests.helpers.import_samples import (
    SAMPLES,
    landed_bytes,
    landed_rows,
    settings_of,
)

NAME = "'; DROP TABLE files; --"


def _call(number: int, **values: Any) -> dict[str, Any]:
    """Return a Segment call: a track of u_1, a minute after the one before."""
    return {
        "messageId": f"m-{number}",
        "type": "track",
        "event": "Document Created",
        "userId": "u_1",
        "anonymousId": None,
        "timestamp": f"2025-06-02T10:{number:02}:00Z",
        "receivedAt": f"2025-06-02T10:{number:02}:01Z",
        "properties": {},
        "context": {},
        **values,
    }


def _lines(*calls: dict[str, Any]) -> bytes:
    return "".join(json.dumps(call) + "\n" for call in calls).encode()


def _settings(folder: Path, **options: Any) -> Settings:
    (folder / "raw").mkdir(exist_ok=True)
    table = {"kind": "segment", "path": str(folder / "raw"), **options}
    return settings_of(folder / "source", table)


def _imported(folder: Path, *files: bytes, **options: Any) -> tuple[Settings, ImportReport]:
    settings = _settings(folder, **options)
    for number, content in enumerate(files):
        (folder / "raw" / f"{number}.gz").write_bytes(content)
    return settings, run_import(settings)


def test_half_a_line_is_malformed(tmp_path: Path) -> None:
    whole = _lines(_call(1), _call(2))
    _, report = _imported(tmp_path, whole[:-40] + b"\n" + _lines(_call(3)) + whole[:20])
    assert report.totals["landed"] == 2
    assert report.totals["malformed"] == 2
    assert report.totals["rows_read"] == 4


def test_gzip_with_a_member_for_each_row(tmp_path: Path) -> None:
    members = b"".join(gzip.compress(_lines(_call(number))) for number in range(50))
    _, report = _imported(tmp_path, members)
    assert report.totals["landed"] == report.totals["rows_read"] == 50


def test_cyclic_aliases_are_named(tmp_path: Path) -> None:
    aliases = [
        _call(number, type="alias", userId=new, previousId=old, event=None)
        for number, (old, new) in enumerate(
            [("u_a", "u_b"), ("u_b", "u_c"), ("u_c", "u_a"), ("u_d", "u_a"), ("u_e", "u_f")],
            start=10,
        )
    ]
    tracks = [_call(number, userId=f"u_{name}") for number, name in enumerate("abcdef", start=20)]
    settings, report = _imported(tmp_path, _lines(*aliases, *tracks))
    assert report.cycles == ("u_a", "u_b", "u_c", "u_d")
    found = {row["event_id"]: row["entity_id"] for row in landed_rows(settings.source, "events")}
    names = [found[f"m-{number}"] for number in range(20, 26)]
    assert names == ["u_a", "u_b", "u_c", "u_d", "u_f", "u_f"]


def test_sql_in_names(tmp_path: Path) -> None:
    call = _call(
        1, event=NAME, userId=NAME, properties={NAME: NAME, "a/b~c": 1, '"': None}, messageId=NAME
    )
    settings, report = _imported(tmp_path, _lines(call, _call(2)))
    assert report.totals["landed"] == 2
    [row] = [row for row in landed_rows(settings.source, "events") if row["event_id"] == NAME]
    assert row["entity_id"] == NAME
    assert row["event_type"] == "drop_table_files"
    assert json.loads(row["metadata"]) == {NAME: NAME, "a/b~c": 1, '"': None}


def test_sql_in_file_names(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    for number, name in enumerate([f"{NAME}.json", "a*b?[c].json", '"x".json']):
        (tmp_path / "raw" / name).write_bytes(_lines(_call(number)))
    report = run_import(settings)
    assert report.totals["landed"] == report.files == 3


def test_property_of_a_megabyte(tmp_path: Path) -> None:
    text = "x" * (1 << 20)
    settings, report = _imported(tmp_path, _lines(_call(1, properties={"body": text}), _call(2)))
    assert report.totals["landed"] == 2
    sizes = sorted(len(row["metadata"]) for row in landed_rows(settings.source, "events"))
    assert sizes == [0, len(text) + len('{"body":""}')]


def test_column_changes_its_type_between_files(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    columns = "'{0}' AS uuid, 'Document Created' AS event, {1} AS distinct_id, {1} AS person_id"
    with duckdb.connect() as connection:
        for name, id_, properties, moment in (
            ("text", "'7'", "'{\"a\": 1}'", "'2025-06-02 10:00:00+02:00'"),
            ("number", "7::BIGINT", "{'a': 1}", "1748858400000000"),
            ("typed", "7::DOUBLE::INTEGER", "'null'", "TIMESTAMPTZ '2025-06-02 10:00:00+00'"),
        ):
            select = f"SELECT {columns.format(name, id_)}, {properties} AS properties"
            connection.execute(
                f"COPY ({select}, {moment} AS timestamp) TO '{folder / name}.parquet'"
            )
    row = {"uuid": "json", "event": "Document Created", "distinct_id": 7, "person_id": "7"}
    content = {"properties": '{"a": 1}', "timestamp": 1748858400}
    (folder / "json.jsonl").write_bytes(_lines({**row, **content}))
    settings = settings_of(tmp_path / "source", {"kind": "posthog", "path": str(folder)})
    report = run_import(settings)
    assert report.totals["landed"] == report.totals["rows_read"] == 4
    found = {
        row["event_id"]: (row["entity_id"], row["timestamp"], row["metadata"])
        for row in landed_rows(settings.source, "events")
    }
    assert found == {
        "text": ("7", "2025-06-02 08:00:00", '{"a":1}'),
        "number": ("7", "2025-06-02 10:00:00", '{"a":1}'),
        "typed": ("7", "2025-06-02 10:00:00", ""),
        "json": ("7", "2025-06-02 10:00:00", '{"a":1}'),
    }


@pytest.mark.parametrize("is_reversed", [False, True])
def test_two_tools_are_united_by_id(tmp_path: Path, is_reversed: bool) -> None:
    """Of events with one id, the one received last stays, in any order of the imports."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.json").write_bytes(
        _lines(
            _call(1, messageId="e-1"),
            _call(2, messageId="e-2"),
            _call(3, type="group", groupId="acct_1", traits={"name": "One"}),
        )
    )
    event = {"event_type": "Document Shared", "user_id": "u_1", "device_id": "d", "amplitude_id": 1}
    event |= {"event_time": "2025-06-02 10:02:00", "event_properties": {}}
    group = {
        "groups": {"company": ["acct_1"]},
        "group_properties": {"company": {"acct_1": {"plan": "pro"}}},
    }
    (tmp_path / "amplitude.json").write_bytes(
        _lines(
            {**event, **group, "uuid": "e-1", "server_upload_time": "2025-06-02 10:00:00"},
            {**event, **group, "uuid": "e-2", "server_upload_time": "2025-06-03 10:00:00"},
        )
    )
    tables = [
        {"kind": "segment", "path": str(tmp_path / "raw")},
        {"kind": "amplitude", "path": str(tmp_path / "amplitude.json")},
    ]
    settings = settings_of(tmp_path / "source", *(tables[::-1] if is_reversed else tables))
    report = run_import(settings)
    assert (report.totals["landed"], report.totals["duplicate"]) == (2, 2)
    events = landed_rows(settings.source, "events")
    assert {row["event_id"]: row["event_type"] for row in events} == {
        "e-1": "document_created",
        "e-2": "document_shared",
    }
    [user] = landed_rows(settings.source, "users")
    assert (user["user_id"], user["account_id"], user["plan_type"]) == ("u_1", "acct_1", "pro")
    [account] = landed_rows(settings.source, "accounts")
    assert (account["account_name"], account["subscription_tier"]) == ("One", "pro")
    assert report.conflicts == ()


def _faulty_zip(path: Path, fault: str) -> None:
    """Write a zip that is truncated, or whose member is, or that is encrypted."""
    member = gzip.compress(b'{"event_type": "x"}\n' * 500)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1/a.json.gz", member[:-20] if fault == "member" else member)
    content = bytearray(path.read_bytes())
    if fault == "zip":
        content = content[:-30]
    elif fault == "encrypted":
        for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            content[content.index(header) + flags] |= 1
    path.write_bytes(content)


@pytest.mark.parametrize("fault", ["gzip", "zip", "member", "encrypted", "parquet"])
def test_file_that_cannot_be_read_is_one_error_and_changes_nothing(
    tmp_path: Path, fault: str
) -> None:
    settings, _ = _imported(tmp_path, _lines(_call(1)))
    before = landed_bytes(settings.source)
    target = tmp_path / "raw" / "z.gz"
    if fault == "gzip":
        calls = _lines(*(_call(number % 60, messageId=f"z{number}") for number in range(5_000)))
        content = gzip.compress(calls)
        target.write_bytes(content[: len(content) // 2])
    elif fault != "parquet":
        _faulty_zip(target, fault)
    else:
        target.write_bytes(b"PAR1" + bytes(100))
    (tmp_path / "raw" / "0.gz").write_bytes(_lines(_call(1), _call(2)))
    with pytest.raises(SourceError, match=r"^z\.gz (is|cannot be) .*Nothing was imported"):
        run_import(settings)
    assert landed_bytes(settings.source) == before
    target.unlink()
    assert run_import(settings).totals["landed"] == 2


@pytest.mark.parametrize("limit", ["6MB", "40MB"])
def test_too_little_memory_is_one_error_and_changes_nothing(tmp_path: Path, limit: str) -> None:
    """The error names the setting, not a file: all files are whole."""
    settings, _ = _imported(tmp_path, _lines(_call(1)))
    before = landed_bytes(settings.source)
    calls = (
        _call(n % 60, messageId=f"z{n}", properties={"a": f"{n}" * 400}) for n in range(20_000)
    )
    (tmp_path / "raw" / "z.gz").write_bytes(gzip.compress(_lines(*calls), 1))
    with pytest.raises(SourceError, match=r"^The import needs more memory .*Increase memory_limit"):
        run_import(settings.model_copy(update={"memory_limit": limit}))
    assert landed_bytes(settings.source) == before
    assert run_import(settings).totals["landed"] == 20_001


def test_first_import_of_a_file_that_is_cut_off_lands_nothing(tmp_path: Path) -> None:
    content = gzip.compress(_lines(*(_call(number) for number in range(60))))
    with pytest.raises(SourceError, match=r"^1\.gz is corrupt or truncated"):
        _imported(tmp_path, _lines(_call(1)), content[:-20])
    assert landed_bytes(tmp_path / "source") == {}
    (tmp_path / "raw" / "1.gz").write_bytes(content)
    assert run_import(_settings(tmp_path)).totals["landed"] == 60


def test_events_of_two_tools_with_one_id(tmp_path: Path) -> None:
    """The row that was received last lands, whichever tool it is from. Its user is one user."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "events.csv").write_text(
        "id,who,what,at,received\n"
        "m-1,u_1,Board Created,2025-06-02T10:00:00Z,2025-06-02T09:00:00Z\n"
        "m-2,u_1,Board Created,2025-06-02T10:00:00Z,2025-06-02T11:00:00Z\n"
    )
    settings = _settings(tmp_path)
    (tmp_path / "raw" / "0.gz").write_bytes(_lines(_call(1), _call(2), _call(3)))
    events = {"from": "events.csv", "event_id": "id", "user_id": "who", "event": "what"}
    events |= {"timestamp": "at", "received_at": "received"}
    tables = {"kind": "tables", "path": str(tmp_path / "app"), "events": events}
    segment = settings.imports[0].model_dump(exclude_defaults=True)
    both = settings_of(tmp_path / "source", segment, tables)
    report = run_import(both)
    assert (report.totals["landed"], report.totals["duplicate"]) == (3, 2)
    assert {row["event_id"]: row["event_type"] for row in landed_rows(both.source, "events")} == {
        "m-1": "document_created",
        "m-2": "board_created",
        "m-3": "document_created",
    }
    [user] = landed_rows(both.source, "users")
    assert user["user_id"] == "u_1"


def test_export_without_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="Nothing was imported"):
        _imported(tmp_path, b"", gzip.compress(b""))
    assert landed_bytes(tmp_path / "source") == {}


def test_file_without_rows_counts_nothing(tmp_path: Path) -> None:
    _, report = _imported(tmp_path, b"", gzip.compress(b""), _lines(_call(1)))
    assert report.files == 3
    assert report.totals["rows_read"] == report.totals["landed"] == 1


def test_vanished_file_stays_until_a_rebuild(tmp_path: Path) -> None:
    settings, _ = _imported(tmp_path, _lines(_call(1)), _lines(_call(2)))
    before = {row["event_id"] for row in landed_rows(settings.source, "events")}
    (tmp_path / "raw" / "0.gz").unlink()
    report = run_import(settings)
    assert report.vanished == ("0.gz",)
    assert {row["event_id"] for row in landed_rows(settings.source, "events")} == before
    assert run_import(settings, rebuild=True).vanished == ()
    assert [row["event_id"] for row in landed_rows(settings.source, "events")] == ["m-2"]


def test_bytes_of_a_day_with_several_row_groups_do_not_depend_on_other_days(tmp_path: Path) -> None:
    table = {
        "kind": "tables",
        "events": {"from": "*.parquet", "event": "name", "timestamp": "ts", "user_id": "uid"},
    }
    found = []
    for number, days in enumerate((["2025-06-02"], ["2025-06-01", "2025-06-02"])):
        folder = tmp_path / str(number)
        folder.mkdir()
        for day in days:
            rows = 130_000 if day == "2025-06-02" else 50_001
            duckdb.execute(
                f"COPY (SELECT 'Board Created' AS name, 'u_' || i % 7 AS uid,"
                f" TIMESTAMP '{day}' + to_milliseconds(i) AS ts FROM range({rows}) AS r(i))"
                f" TO '{folder / day}.parquet'"
            )
        settings = settings_of(folder / "source", {**table, "path": str(folder)})
        assert run_import(settings).totals["landed"] == sum((130_000, 50_001)[: len(days)])
        found.append(landed_bytes(settings.source)["events/event_date=2025-06-02/events.parquet"])
    assert found[0] == found[1]


def test_only_days_with_other_rows_are_written(tmp_path: Path) -> None:
    later = _call(3, timestamp="2025-06-05T00:00:00Z")
    settings, _ = _imported(tmp_path, _lines(_call(1)), _lines(later))
    (tmp_path / "raw" / "2.gz").write_bytes(_lines(_call(9, timestamp="2025-06-05T01:00:00Z")))
    report = run_import(settings)
    assert report.written == (
        "events/event_date=2025-06-05/events.parquet",
        "imports.parquet",
    )
    (tmp_path / "raw" / "1.gz").write_bytes(_lines(_call(4)))
    (tmp_path / "raw" / "2.gz").write_bytes(_lines(_call(5)))
    assert run_import(settings).removed == ("events/event_date=2025-06-05/events.parquet",)
    assert not (settings.source / "events" / "event_date=2025-06-05").exists()


def test_import_that_was_killed_while_moving_files_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, _ = _imported(tmp_path, _lines(_call(1)))
    (tmp_path / "raw" / "1.gz").write_bytes(_lines(_call(2), _call(3, userId="u_2")))
    at_once = settings_of(tmp_path / "at_once", SAMPLES["segment"].import_table(tmp_path / "raw"))
    run_import(at_once)

    real, moved = Path.replace, []

    def killed(self: Path, target: Path) -> Path:
        moved.append(target)
        if target.suffix == ".parquet" and len(moved) > 2:
            raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            run_import(settings)
    assert landed_bytes(settings.source) != landed_bytes(at_once.source)
    run_import(settings)
    assert landed_bytes(settings.source) == landed_bytes(at_once.source)


@pytest.mark.parametrize(
    "expression",
    [
        "a, b",
        "a) FROM raw; DROP TABLE files; SELECT (b",
        "(SELECT 1)",
        "count(*)",
        "a /*",
        "nothing",
    ],
)
def test_expression_must_be_one_expression(tmp_path: Path, expression: str) -> None:
    with pytest.raises(SettingsError, match=r"import\.0\.deleted_when"):
        _imported(tmp_path, _lines(_call(1)), deleted_when=expression)


@pytest.mark.parametrize(
    ("table", "setting"),
    [
        ({"kind": "segment", "deleted_when": "a, b"}, r"import\.1\.deleted_when"),
        (
            {
                "kind": "tables",
                "events": {"from": "x.csv", "event": "(SELECT 1)", "timestamp": "t"},
            },
            r"import\.1\.events\.event",
        ),
    ],
)
def test_expressions_of_all_imports_are_checked_before_files_are_read(
    table: dict[str, Any], setting: str, tmp_path: Path
) -> None:
    settings, _ = _imported(tmp_path, _lines(_call(1)))
    before = landed_bytes(settings.source)
    batches = sorted((settings.source / WORK).rglob("*.parquet"))
    (tmp_path / "raw" / "1.gz").write_bytes(_lines(_call(2)))
    faulty = ImportSettings(path=str(tmp_path), **table)
    both = settings.model_copy(update={"imports": (*settings.imports, faulty)})
    with pytest.raises(SettingsError, match=f"^{setting} must be"):
        run_import(both)
    assert landed_bytes(settings.source) == before
    assert sorted((settings.source / WORK).rglob("*.parquet")) == batches


def test_source_of_others_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "events.csv").write_text("event_id\n")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.json").write_bytes(_lines(_call(1)))
    table = {"kind": "segment", "path": str(tmp_path / "raw")}
    settings = Settings(source=tmp_path / "source", imports=(table,))
    with pytest.raises(SettingsError, match=r"events\.csv, which no import wrote"):
        run_import(settings)


def test_two_imports_at_once(tmp_path: Path) -> None:
    settings, _ = _imported(tmp_path, _lines(_call(1)))
    with computed(settings), pytest.raises(SourceError, match="Another import is writing"):
        run_import(settings)
    assert run_import(settings).written == ()
