"""Forgetting in Dagster's own state: its SQLite files and the output of steps.

Failed checks show some of the rows that break a rule, and errors quote values, so the event log can
name people. Storage that is no file in Dagster's home (a PostgreSQL server, say) is not reached.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from monstera_assets.checks.rules import Finding
from monstera_assets.warehouse.errors import WarehouseError

_TEXT_FILES = {".out", ".err", ".log", ".txt"}
_BUSY_SECONDS = 30.0
_NUMBER = re.compile(r"-?[0-9.]+")


class LogError(WarehouseError):
    """A file of Dagster's could not be rewritten; nobody was forgotten yet."""


def forget_in_logs(home: Path, names: Iterable[str], tombstone: str) -> list[Path]:
    """Replace ids and addresses by a tombstone in all files of Dagster's home; which files had one.

    A name is replaced where it stands alone, a mere number only as a cell of a check's examples.

    Raises:
        LogError: a file is locked or cannot be written.
    """
    replaced = _Replacement(names, tombstone)
    changed = []
    for path in sorted(home.rglob("*")):
        try:
            if path.suffix == ".db" and path.is_file():
                found = _in_sqlite(path, replaced)
            elif path.suffix in _TEXT_FILES and path.is_file():
                found = _in_text(path, replaced)
            else:
                continue
        except (OSError, sqlite3.Error) as error:
            raise LogError(
                f"{path} cannot be rewritten ({error}), so nobody was forgotten. Stop Dagster if it"
                " is running, check the disk and permissions, and ask again."
            ) from error
        if found:
            changed.append(path)
    return changed


class _Replacement:
    def __init__(self, names: Iterable[str], tombstone: str) -> None:
        forms: set[str] = set()
        patterns: list[str] = []
        for name in names:
            # As it is, as a check's example shows it, and both in JSON.
            shown = Finding("", 1, (name,)).as_markdown().splitlines()[0].strip("| ")
            ways = {name, shown, json.dumps(name)[1:-1], json.dumps(shown)[1:-1]}
            forms |= ways
            for way in sorted(ways, key=len, reverse=True):
                around = (
                    (r"(?<=\| )", r"(?= \|)")
                    if _NUMBER.fullmatch(name)
                    else (
                        r"(?<![\w@+-])",
                        r"(?![\w@+-])",
                    )
                )
                patterns.append(around[0] + re.escape(way) + around[1])
        self.forms = sorted(forms)
        # Addresses before ids: an address may begin with one.
        self._pattern = re.compile("|".join(sorted(patterns, key=len, reverse=True)))
        self._tombstone = tombstone

    def __call__(self, text: str | bytes | None) -> str | bytes | None:
        return self._pattern.sub(self._tombstone, text) if isinstance(text, str) else text


def _in_sqlite(path: Path, replaced: _Replacement) -> bool:
    with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
        connection.create_function("pseudonymized", 1, replaced, deterministic=True)
        connection.execute("PRAGMA secure_delete = ON")
        columns = connection.execute(
            "SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c"
            " WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'"
        ).fetchall()
        changed = 0
        connection.execute("BEGIN IMMEDIATE")
        for table, column in columns:
            name = f'"{column}"'
            candidates = " OR ".join(f"instr({name}, ?) > 0" for _ in replaced.forms)
            changed += connection.execute(
                f'UPDATE "{table}" SET {name} = pseudonymized({name})'
                f" WHERE ({candidates}) AND pseudonymized({name}) <> {name}",
                replaced.forms,
            ).rowcount
        connection.execute("COMMIT")
        if changed:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return bool(changed)


def _in_text(path: Path, replaced: _Replacement) -> bool:
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    pseudonymized = replaced(text)
    if pseudonymized == text:
        return False
    incoming = path.with_name(path.name + ".pseudonymized")
    incoming.write_text(str(pseudonymized), encoding="utf-8", errors="surrogateescape")
    incoming.replace(path)
    return True
