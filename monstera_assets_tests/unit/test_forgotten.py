"""Pseudonymization of staged rows with unusual ids."""

from __future__ import annotations

import hashlib
import hmac
import json

import duckdb
import pytest

from monstera_assets.bronze.forgotten import FORGOTTEN, Forgetting, Key

SECRET = bytes(range(32))


def _hash(kind: str, value: str) -> str:
    return hmac.new(SECRET, f"{kind}:{value}".encode(), hashlib.sha256).hexdigest()


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("CREATE SCHEMA operations")
    connection.execute(
        f"CREATE TABLE {FORGOTTEN} (kind VARCHAR, keyed_hash VARCHAR, tombstone VARCHAR)"
    )
    for kind, value, tombstone in (
        ("user_id", "42", "forgotten_a"),
        ("user_id", "café 1", "forgotten_b"),
        ("email", "zoë@example.invalid", "forgotten_b"),
    ):
        connection.execute(
            f"INSERT INTO {FORGOTTEN} VALUES (?, ?, ?)", [kind, _hash(kind, value), tombstone]
        )
    return connection


def _staged(connection: duckdb.DuckDBPyConnection, rows: str) -> list[tuple[object, ...]]:
    connection.execute(
        "CREATE TEMP TABLE events_rows AS SELECT * FROM"
        f" (VALUES {rows}) AS t(entity_id, entity_type, session_id, metadata)"
    )
    connection.execute("CREATE TEMP TABLE events_malformed (raw_line VARCHAR)")
    Forgetting(connection, Key(SECRET)).staged("events")
    return connection.execute("FROM events_rows ORDER BY ALL").fetchall()


def test_numbers_as_ids(connection: duckdb.DuckDBPyConnection) -> None:
    """Accounts with the same number and other numbers in metadata stay unchanged."""
    document = json.dumps(
        {"target_user_id": 42, "seats": 42, "invited_user_id": "42", "page": "42"}
    )
    rows = _staged(
        connection,
        f"(42, 'user', 7, NULL), (42, 'account', 7, NULL), (43, 'user', 42, '{document}')",
    )
    [hashed] = [row[2] for row in rows if row[0] == "forgotten_a"]
    canonical = _hash("user_id", "7")
    assert hashed == f"session_{_hash('value', f'session forgotten_a {canonical}')[:32]}"
    assert ("42", "account", "7", None) in rows
    [(session, metadata)] = [row[2:] for row in rows if row[0] == "43"]
    assert session == "42"
    assert json.loads(str(metadata)) == {
        "target_user_id": "forgotten_a",
        "seats": 42,
        "invited_user_id": "forgotten_a",
        "page": "42",
    }


def test_escaped_texts_and_ids_with_spaces(connection: duckdb.DuckDBPyConnection) -> None:
    others = {"x": 'a "b" c', "y": ["café 12", "zoë@example.invalid.org", "azoë@example.invalid"]}
    document = json.dumps({"target_user_id": "café 1", "mail": "ZOË@example.invalid", **others})
    assert "\\u00e9" in document
    plain = json.dumps(json.loads(document), ensure_ascii=False)
    rows = _staged(connection, f"('x', 'user', 's', '{document}'), ('y', 'user', 's', '{plain}')")
    for row in rows:
        assert json.loads(str(row[3])) == {
            "target_user_id": "forgotten_b",
            # A load replaces every address in metadata, so staging leaves them.
            "mail": "ZOË@example.invalid",
            **others,
        }


def test_rows_without_forgotten_people_are_left_alone(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    rows = _staged(connection, "(1, 'user', 2, '{\"a\": 1}')")
    assert rows == [(1, "user", 2, '{"a": 1}')]  # numbers keep their types
