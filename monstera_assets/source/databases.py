"""Read database tables or Parquet files at a URL through DuckDB extensions.

A source can be an address instead of a folder: `duckdb:FILE`, `sqlite:FILE`, `postgres:CONNECTION`
or a URL such as `s3://bucket/folder`. An address can contain a password, so error messages do not
quote addresses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from monstera_assets.source.errors import SourceError
from monstera_assets.source.sql import identifier, literal

if TYPE_CHECKING:
    import duckdb  # quick commands must not load DuckDB

_ADDRESS = re.compile(r"(duckdb|sqlite|postgres(?:ql)?|s3|gs|gcs|r2|https?|file):(.+)", re.DOTALL)
_FILES = ("duckdb", "sqlite")
_EXTENSIONS = {"sqlite": "sqlite", "postgres": "postgres"}
_URL_EXTENSION = "httpfs"
_ABSENT = re.compile(r"No files found|404|Not Found", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """A database or a URL."""

    kind: str
    address: str = field(repr=False)

    @property
    def is_url(self) -> bool:
        """Whether the place is the URL of a folder."""
        return self.kind not in (*_FILES, "postgres")

    @property
    def path(self) -> Path | None:
        """The database file, if the database is a file."""
        return Path(self.address) if self.kind in _FILES else None

    @property
    def shown(self) -> str:
        """The place, without any text that could be a password."""
        return f"{self.kind}:{self.address}" if self.kind in _FILES else f"{self.kind}:"


@dataclass(frozen=True)
class DatabaseTable:
    """A database table or view, or a set of Parquet files at a URL."""

    place: Place
    schema: str
    name: str

    def relation(self, database: str) -> str:
        """Return the SQL for the table's rows in an attached database."""
        if self.place.is_url:
            url = f"{self.place.address}/{self.name}"
            return f"read_parquet({literal(url)}, union_by_name = true, hive_partitioning = false)"
        return ".".join(identifier(part) for part in (database, self.schema, self.name))


def place_of(source: Path) -> Place | None:
    """Return the database or URL that a source specifies, or None if the source is a folder."""
    found = _ADDRESS.fullmatch(str(source))
    if found is None:
        return None
    kind, rest = found.groups()
    if kind in _FILES:
        return Place(kind, rest)
    # A Path drops the second slash in a URL.
    if rest.startswith("/"):
        slashes = "///" if kind == "file" else "//"
        rest = f"{kind}:{slashes}{rest.strip('/')}"
    return Place("postgres" if kind.startswith("postgres") else kind, rest)


def shown_source(source: Path) -> str:
    """Return the source setting, without any text that could be a password."""
    place = place_of(source)
    return str(source) if place is None else place.shown


@contextmanager
def attached(connection: duckdb.DuckDBPyConnection, place: Place) -> Iterator[str]:
    """Attach a place for reading, and yield the attached database's name.

    Raises:
        SourceError: If an extension is missing or the place cannot be read.
    """
    import duckdb

    database = f"place_{uuid4().hex}"
    try:
        if place.is_url:
            if place.kind != "file":
                connection.execute(f"LOAD {_URL_EXTENSION}")
            yield database
            return
        connection.execute(
            f"ATTACH {literal(place.address)} AS {database} (TYPE {place.kind}, READ_ONLY)"
        )
        try:
            yield database
        finally:
            connection.execute(f"DETACH {database}")
    except duckdb.Error as error:
        # DuckDB's errors quote the address, which may contain a password.
        raise _unreadable(place, error) from None


def _unreadable(place: Place, error: duckdb.Error) -> SourceError:
    import duckdb

    extension = _URL_EXTENSION if place.is_url else _EXTENSIONS.get(place.kind)
    if extension and "extension" in str(error).lower():
        return SourceError(
            f"The source {place.shown} requires DuckDB's {extension} extension, which is not "
            f"installed. With network access, run INSTALL {extension} once in DuckDB "
            f"{duckdb.__version__} as the user who runs monstera."
        )
    reason = f" ({str(error).partition(chr(10))[0]})" if place.kind in _FILES else ""
    return SourceError(
        f"The source {place.shown} cannot be read{reason}. Check that the source exists, its "
        "credentials are valid, and no other process is writing to it."
    )


def tables_at(place: Place, names: Sequence[str]) -> list[DatabaseTable]:
    """Return a database's tables and views, or the Parquet files with the given names at a URL.

    Raises:
        SourceError: If an extension is missing or the place cannot be read.
    """
    with _connection() as connection, attached(connection, place) as database:
        if not place.is_url:
            rows = connection.execute(
                "SELECT table_schema, table_name FROM information_schema.tables "
                f"WHERE table_catalog = {literal(database)} ORDER BY ALL"
            ).fetchall()
            return [DatabaseTable(place, schema, name) for schema, name in rows]
        patterns = [f"{name}.parquet" for name in names]
        if not place.kind.startswith("http"):  # HTTP cannot list files
            patterns += [f"{name}/**/*.parquet" for name in names]
        found = [DatabaseTable(place, "", pattern) for pattern in patterns]
        return [table for table in found if _exists(connection, table)]


def table_digest(table: DatabaseTable) -> str:
    """Read all rows, and return the row count, the sum of the row hashes and the column types.

    Raises:
        SourceError: If an extension is missing or the table cannot be read.
    """
    with _connection() as connection, attached(connection, table.place) as database:
        relation = table.relation(database)
        columns = connection.execute(f"DESCRIBE FROM {relation}").fetchall()
        rows = connection.execute(f"SELECT count(*), sum(hash(t)) FROM {relation} AS t").fetchall()
    return f"{rows} {columns}"


def _connection() -> duckdb.DuckDBPyConnection:
    import duckdb

    return duckdb.connect(config={"autoinstall_known_extensions": False})


def _exists(connection: duckdb.DuckDBPyConnection, table: DatabaseTable) -> bool:
    import duckdb

    try:
        connection.execute(f"DESCRIBE FROM {table.relation('')}")
    except (duckdb.IOException, duckdb.HTTPException) as error:
        if _ABSENT.search(str(error)):
            return False
        raise
    return True
