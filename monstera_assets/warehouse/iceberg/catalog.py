"""Open an Iceberg catalog, and create and load the tables of a warehouse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pyarrow import fs as storage
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.io import load_file_io

from monstera_assets.warehouse.errors import (
    ConflictingWriteError,
    MissingTableError,
    WarehouseError,
)
from monstera_assets.warehouse.iceberg.schemas import (
    columns_to_add,
    iceberg_schema,
    partition_spec,
)
from monstera_assets.warehouse.iceberg.stored_table import StoredTable
from monstera_assets.warehouse.tables import Layer, Table

_NAME = "monstera"
_SQLITE = "sqlite:"
_SQLITE_TIMEOUT = "timeout=60"  # seconds; SQLite's default of 5 is short for several writers
_ATTEMPTS = 5

_PROPERTIES = {
    # Commits to other days are repeated. Four writers at a time exceed the defaults.
    "commit.retry.num-retries": "20",
    "commit.retry.max-wait-ms": "2000",
    # Merge manifests, so that a table that is written once a day does not have one for each day.
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "30",
    # Delete old metadata files.
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    # Manifests must not contain the smallest and largest value of columns with personal data.
    "write.metadata.metrics.default": "counts",
    # Other writers must not write row-level deletes, since readers read a list of data files.
    "write.delete.mode": "copy-on-write",
    "write.update.mode": "copy-on-write",
    "write.merge.mode": "copy-on-write",
}


class IcebergCatalog:
    """The tables of a warehouse.

    Args:
        catalog: the pyiceberg catalog.
        warehouse: the URL of the folder with the tables' files.
    """

    def __init__(self, catalog: Catalog, warehouse: str) -> None:
        self._catalog = catalog
        self.warehouse = warehouse.rstrip("/")

    def stored(self, table: Table) -> StoredTable:
        """Load a table for reading. Later commits do not change what is read.

        Raises:
            MissingTableError: If the table does not exist.
            SchemaMismatchError: If a stored column has another type or is not declared.
        """
        try:
            handle = self._load(table)
        except NoSuchTableError as error:
            raise MissingTableError(
                f"{table.qualified_name} is required but was never materialized. Materialize the"
                " table first, for example with: monstera run"
            ) from error
        columns_to_add(table, handle.schema())
        return StoredTable(table, handle)

    def opened(self, table: Table) -> StoredTable:
        """Load a table for writing. Create it, or add columns that are declared but not stored.

        Call this function before the inputs are read, so that a commit of another run to the same
        days is found.

        Raises:
            SchemaMismatchError: If a stored column has another type or is not declared.
            ConflictingWriteError: If other runs change the table's columns at the same time.
        """
        for _ in range(_ATTEMPTS):
            try:
                handle = self._load(table)
            except NoSuchTableError:
                try:
                    handle = self._create(table)
                except TableAlreadyExistsError:  # another run was faster
                    continue
            missing = columns_to_add(table, handle.schema())
            if not missing:
                return StoredTable(table, handle)
            try:
                with handle.update_schema() as update:
                    for column in missing:
                        update.add_column(column.name, column.field_type, column.doc)
            except CommitFailedException:  # by another run, perhaps of the same columns
                continue
            return StoredTable(table, handle)
        raise ConflictingWriteError(
            f"{table.qualified_name} could not be opened, because other runs were changing it. Run"
            " the same command again."
        )

    def exists(self, table: Table) -> bool:
        """Return whether the table exists."""
        return bool(self._catalog.table_exists((table.schema, table.name)))

    def drop_all(self) -> None:
        """Delete all tables with their files."""
        for layer in Layer:
            if not self._catalog.namespace_exists(layer):
                continue
            for name in self._catalog.list_tables(layer):
                folder = str(self._catalog.load_table(name).location())
                self._catalog.drop_table(name)
                self.delete_folder(folder)

    def delete_folder(self, url: str) -> None:
        """Delete a folder inside the warehouse folder, if it exists."""
        system, path = self._filesystem(url)
        if system.get_file_info(path).type != storage.FileType.NotFound:
            system.delete_dir(path)

    def delete_older_folders(self, url: str, before: datetime) -> None:
        """Delete the folders inside a folder to which nothing was written since a time."""
        system, path = self._filesystem(url)
        written: dict[str, datetime] = {}
        selected = storage.FileSelector(path, recursive=True, allow_not_found=True)
        for info in system.get_file_info(selected):
            if info.type == storage.FileType.File and info.mtime is not None:
                folder = info.path.removeprefix(path).strip("/").partition("/")[0]
                written[folder] = max(info.mtime, written.get(folder, info.mtime))
        for folder, latest in written.items():
            if latest < before:
                system.delete_dir(f"{path}/{folder}")

    def _filesystem(self, url: str) -> tuple[storage.FileSystem, str]:
        io = load_file_io({**self._catalog.properties}, url)
        scheme, netloc, path = io.parse_location(url)
        return io.fs_by_scheme(scheme, netloc), path

    def close(self) -> None:
        """Close the catalog's connections."""
        self._catalog.close()

    def _load(self, table: Table) -> Any:
        return self._catalog.load_table((table.schema, table.name))

    def _create(self, table: Table) -> Any:
        try:
            self._catalog.create_namespace_if_not_exists(table.schema)
        except Exception:  # of pyiceberg or SQLAlchemy, if another run was faster
            if not self._catalog.namespace_exists(table.schema):
                raise
        schema = iceberg_schema(table)
        day = table.partition_column
        return self._catalog.create_table(
            (table.schema, table.name),
            schema,
            location=f"{self.warehouse}/{table.schema}/{table.name}",
            partition_spec=partition_spec(table, schema),
            properties={
                **_PROPERTIES,
                # Files are replaced by the smallest and largest day that manifests contain for them.
                **({f"write.metadata.metrics.column.{day}": "full"} if day else {}),
            },
        )


def open_catalog(warehouse: str, properties: Mapping[str, str]) -> IcebergCatalog:
    """Open a catalog, and create a local warehouse folder if it does not exist.

    Args:
        warehouse: the URL of the folder with the tables' files, such as `s3://bucket/monstera`. All
            processes that read and write the tables must reach it under the same URL. The settings
            have validated it.
        properties: pyiceberg's catalog properties, such as `type` and `uri`, and the properties of
            the storage.

    Raises:
        WarehouseError: If a property is invalid, or if the catalog cannot be reached.
    """
    url = urlsplit(warehouse)
    if url.scheme == "file":
        Path(url.path).mkdir(parents=True, exist_ok=True)
    given = {"py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO", **properties}
    if given.get("uri", "").startswith(_SQLITE) and "timeout=" not in given["uri"]:
        given["uri"] += ("&" if "?" in given["uri"] else "?") + _SQLITE_TIMEOUT
    catalog = _first_of_two(lambda: load_catalog(_NAME, **{**given, "warehouse": warehouse}))
    return IcebergCatalog(catalog, warehouse)


def _first_of_two(connect: Callable[[], Catalog]) -> Catalog:
    """Connect, and repeat once, since two processes may create the catalog's tables at once."""
    try:
        return connect()
    except Exception:  # of SQLAlchemy, boto3 and requests
        try:
            return connect()
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise WarehouseError(
                f"The Iceberg catalog could not be opened: {reason}. Check the catalog's properties"
                " (type, uri and, for some types, credentials) and that the catalog is running."
            ) from error
