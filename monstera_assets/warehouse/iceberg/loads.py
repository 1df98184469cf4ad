"""Write several tables from one load, such as rows, rejected rows and the ledger.

A commit changes a single table. The tables of a load are committed in order and get the same time,
the ledger last. If a load is killed between two commits, the times of its days differ, and the load
is not complete. Loading the same days again repairs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from monstera_assets.warehouse.errors import MissingTableError, WarehouseError
from monstera_assets.warehouse.iceberg.catalog import IcebergCatalog
from monstera_assets.warehouse.iceberg.replacement import Committed, replace_rows
from monstera_assets.warehouse.iceberg.stored_table import StoredTable
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.windows import DateWindow


@dataclass(frozen=True)
class Load:
    """The tables of a load, opened before its source is read.

    Attributes:
        tables: the tables in the order of their commits.
        time: the time that is recorded for all tables, in UTC.
    """

    tables: Mapping[str, StoredTable]
    time: datetime

    @classmethod
    def open(cls, catalog: IcebergCatalog, tables: Sequence[Table]) -> Load:
        """Open the tables for writing.

        Args:
            catalog: the catalog.
            tables: the tables in the order of their commits, with the ledger as the last.

        Raises:
            SchemaMismatchError: If a stored column has another type or is not declared.
        """
        opened = {table.name: catalog.opened(table) for table in tables}
        return cls(opened, max(stored.opened_at for stored in opened.values()))

    def replace(
        self,
        files: Mapping[str, Sequence[str]],
        windows: Sequence[DateWindow] | None,
        run_id: str | None = None,
    ) -> dict[str, Committed]:
        """Replace the days in all tables. Unpartitioned tables are replaced as a whole.

        Args:
            files: the URLs of the new Parquet files by table name.
            windows: the days to replace, or None if no table is a daily table.
            run_id: the run.

        Raises:
            ConflictingWriteError: If another run replaced the same days since the tables were opened.
                Earlier tables in the order may already be replaced.
            WarehouseError: If files are missing for a table, or if a file is not valid.
        """
        if files.keys() != self.tables.keys():
            raise WarehouseError(
                f"The load writes {', '.join(self.tables)}, but the files of"
                f" {', '.join(files) or 'no table'} are given. No table was written."
            )
        return {
            name: replace_rows(
                stored,
                files[name],
                windows if stored.declared.partition_column else None,
                time=self.time,
                run_id=run_id,
            )
            for name, stored in self.tables.items()
        }


def incomplete_days(catalog: IcebergCatalog, tables: Sequence[Table]) -> list[date | None]:
    """Return the days whose load did not reach all tables, in order.

    The result contains None if a load of unpartitioned tables is not complete. An unpartitioned table
    among daily tables is not compared.

    Args:
        catalog: the catalog.
        tables: the tables of the load in the order of their commits.
    """
    daily = [table for table in tables if table.partition_column]
    # The last table is read first, so that a load that ends in the meantime does not look incomplete.
    times = [_times(catalog, table) for table in reversed(daily or tables)]
    days = {day for found in times for day in found}
    return sorted(
        (day for day in days if len({found.get(day) for found in times}) > 1),
        key=lambda day: day or date.min,
    )


def _times(catalog: IcebergCatalog, table: Table) -> Mapping[date | None, datetime]:
    try:
        return catalog.stored(table).materializations.times
    except MissingTableError:
        return {}
