"""Erase a person from Dagster's state: its SQLite files or PostgreSQL database, and step output.

The event log can contain personal data because failed checks show example rows and errors quote
values.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from dagster import DagsterError
from dagster._core.instance.ref import InstanceRef
from dagster._serdes import ConfigurableClass

from monstera_assets.checks.rules import Finding
from monstera_assets.warehouse.errors import WarehouseError

_TEXT_FILES = {".out", ".err", ".log", ".txt"}
_BUSY_SECONDS = 30.0
_NUMBER = re.compile(r"-?[0-9.]+")


class LogError(WarehouseError):
    """Dagster's state could not be rewritten. The person has not been erased yet."""


def forget_in_logs(home: Path, names: Iterable[str], tombstone: str) -> list[Path | str]:
    """Replace ids and addresses in Dagster's state with a tombstone.

    Only whole words are replaced. Numbers are replaced only if they are cells in a check's examples.
    Return the changed files in Dagster's home, and the URL of a changed PostgreSQL database.

    Raises:
        LogError: If a file is locked, or a file or the PostgreSQL database cannot be rewritten.
    """
    replaced = _Replacement(names, tombstone)
    changed: list[Path | str] = []
    try:
        changed += [
            url.render_as_string(hide_password=True)
            for url in _postgres_urls(home)
            if _in_postgres(url, replaced)
        ]
    except (sa.exc.SQLAlchemyError, DagsterError) as error:
        # The statement's parameters contain ids.
        reason = getattr(error, "orig", None) or type(error).__name__
        raise _postgres_error(reason) from None
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
                f"{path} cannot be rewritten ({error}). The person has not been erased. Stop Dagster if"
                " it is running, check the disk space and permissions, then run the command again."
            ) from error
        if found:
            changed.append(path)
    return changed


class _Replacement:
    def __init__(self, names: Iterable[str], tombstone: str) -> None:
        forms: set[str] = set()
        patterns: list[str] = []
        for name in names:
            # The name itself, its form in a check's example, and both forms in JSON.
            shown = Finding("", 1, (name,)).as_markdown().splitlines()[0].strip("| ")
            variants = {name, shown, json.dumps(name)[1:-1], json.dumps(shown)[1:-1]}
            forms |= variants
            for variant in sorted(variants, key=len, reverse=True):
                around = (
                    (r"(?<=\| )", r"(?= \|)")
                    if _NUMBER.fullmatch(name)
                    else (
                        r"(?<![\w@+-])",
                        r"(?![\w@+-])",
                    )
                )
                patterns.append(around[0] + re.escape(variant) + around[1])
        self.forms = sorted(forms)
        # Longest first, because an address may start with an id.
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


def _postgres_error(reason: object) -> LogError:
    return LogError(
        f"Dagster's PostgreSQL database cannot be rewritten ({reason}). The person has not been"
        " erased. Check the server and the storage in dagster.yaml, then run the command again."
    )


def _postgres_urls(home: Path) -> set[sa.URL]:
    """Return the URLs of the PostgreSQL databases that `dagster.yaml` configures as storage.

    Raises:
        LogError: If a database cannot be reached.
    """
    instance, urls = InstanceRef.from_dir(str(home)), set()
    for data in (
        instance.run_storage_data,
        instance.event_storage_data,
        instance.schedule_storage_data,
    ):
        # The event log's class is in this package.
        if data is not None and "Postgres" in data.class_name:
            # Import this lazily, since the package is optional.
            from dagster_postgres.utils import DagsterPostgresException

            try:
                storage: Any = data.rehydrate(as_type=ConfigurableClass)  # type: ignore[type-abstract]
            except DagsterPostgresException as error:
                raise _postgres_error(error) from None
            urls.add(sa.make_url(storage.postgres_url))
    return urls


def _in_postgres(url: sa.URL, replaced: _Replacement) -> bool:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    changed = set[str]()
    with engine.begin() as connection:
        metadata = sa.MetaData()
        metadata.reflect(connection)
        for table in metadata.sorted_tables:
            columns = [each for each in table.columns if isinstance(each.type, sa.String)]
            if not columns:
                continue
            # Like SQLite, let other processes read but not write.
            connection.execute(sa.text(f'LOCK TABLE "{table.name}" IN SHARE ROW EXCLUSIVE MODE'))
            position: sa.ColumnElement[str] = sa.literal_column("ctid")
            named = (sa.func.strpos(each, form) > 0 for each in columns for form in replaced.forms)
            rows = connection.execute(sa.select(position, *columns).where(sa.or_(*named))).all()
            for at, *old in rows:
                new = [replaced(value) for value in old]
                if new != old:
                    names = [each.name for each in columns]
                    update = sa.update(table).values(dict(zip(names, new, strict=True)))
                    connection.execute(update.where(position == at))
                    changed.add(table.name)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for name in changed:
            connection.execute(sa.text(f'VACUUM FULL "{name}"'))  # deletes the old rows from disk
    engine.dispose()
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
