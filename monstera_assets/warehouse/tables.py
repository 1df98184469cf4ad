"""Declare tables and their columns.

Each `Table` determines the DDL, the casts on write, the column schema in the Dagster UI, the
contract checks and the data dictionary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
from dagster import TableColumn, TableColumnConstraints, TableConstraints, TableRecord, TableSchema
from ibis.backends.sql.datatypes import DuckDBType

from monstera_assets.warehouse.extras import is_installed
from monstera_assets.warehouse.layers import OPERATIONS_SCHEMA, AssetGroup, Layer

__all__ = [
    "OPERATIONS_SCHEMA",
    "TREND_FLAGS",
    "AssetGroup",
    "Column",
    "Layer",
    "Reference",
    "Table",
    "TableRecord",
    "duckdb_type",
]


@dataclass(frozen=True)
class Reference:
    """A reference to another table's column, which must contain all of this column's values."""

    table: str
    column: str

    @property
    def layer(self) -> str:
        """The referenced table's schema, which is the prefix of its name."""
        return self.table.split("_", 1)[0]


@dataclass(frozen=True)
class Column:
    """A column's name, Ibis type (such as `string` or `int64`) and description, including the unit."""

    name: str
    type: str
    description: str
    nullable: bool = False
    allowed: tuple[str, ...] | None = None
    references: Reference | None = None
    is_share: bool = False
    """Whether the value is a share: a part divided by its whole, between 0 and 1."""
    days_before_latest: int | None = None
    """For a trend flag: the number of days before the table's latest date on which the flag is true."""

    @cached_property
    def dtype(self) -> dt.DataType:
        """The Ibis type, including nullability."""
        return dt.dtype(self.type, nullable=self.nullable)

    @cached_property
    def stored_type(self) -> str:
        """The DuckDB type for DDL and casts."""
        return duckdb_type(self.dtype)


@cache
def duckdb_type(dtype: dt.DataType) -> str:
    """Return an Ibis type's DuckDB name for DDL and casts."""
    return str(DuckDBType.to_string(dtype)).replace("TEXT", "VARCHAR")


@cache
def _ibis_type(stored_type: str) -> dt.DataType:
    return DuckDBType.from_string(stored_type)


def same_type(left: str, right: str) -> bool:
    """Return whether two type names denote the same DuckDB type."""
    return left == right or bool(DuckDBType.from_string(left) == DuckDBType.from_string(right))


TREND_FLAGS = (
    Column(
        "is_current_day",
        "boolean",
        "True on the table's latest date. The flag is updated on each write.",
        days_before_latest=0,
    ),
    Column(
        "is_last_90_days",
        "boolean",
        "True on the table's latest date and the 89 days before it.",
        days_before_latest=89,
    ),
)
"""Columns for trend charts, set by the writer because they depend on the table's latest date."""

_DECLARED: dict[str, Table] = {}
"""Declarations by qualified name, since Dagster passes only the asset key to an IO manager."""


@dataclass(frozen=True)
class Table:
    """A declared table.

    Attributes:
        grain: what one row represents.
        key: the columns that identify a row, which may be nullable.
        group: the group in the Dagster UI, by subject.
        partition_column: a daily table's DATE column.
        takes_earlier_rows: whether the first partition also contains the rows for earlier days, as in
            fact tables.
        extra: the extra of the package that must be installed to compute the table, or None.
    """

    layer: Layer
    name: str
    grain: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    owners: tuple[str, ...]
    group: AssetGroup
    partition_column: str | None = None
    takes_earlier_rows: bool = False
    extra: str | None = None

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError(f"{self.name} declares a column twice.")
        unknown = {*self.key, *([self.partition_column] if self.partition_column else [])} - {
            *names
        }
        if unknown:
            raise ValueError(
                f"{self.name}: key or partition columns {sorted(unknown)} are not declared."
            )
        days = [column for column in self.columns if column.name == self.partition_column]
        if any(column.nullable or not column.dtype.is_date() for column in days):
            raise ValueError(
                f"{self.name}: the partition column {self.partition_column} must be a non-nullable"
                " date."
            )
        if not days and any(column.days_before_latest is not None for column in self.columns):
            raise ValueError(f"{self.name} has trend flags, so it needs a partition column.")
        if not self.name.startswith(f"{self.layer}_"):
            raise ValueError(f"{self.name} must start with its layer, {self.layer}_.")

    @property
    def qualified_name(self) -> str:
        """The table's name in SQL, as `schema.table`."""
        return f"{self.layer}.{self.name}"

    @property
    def is_available(self) -> bool:
        """Whether the extra that the table needs, if any, is installed."""
        return self.extra is None or is_installed(self.extra)

    @property
    def schema(self) -> str:
        """The table's schema."""
        return str(self.layer)

    @property
    def data_columns(self) -> tuple[Column, ...]:
        """The columns that an asset returns, which are all columns except the trend flags."""
        return tuple(column for column in self.columns if column.days_before_latest is None)

    @property
    def trend_flags(self) -> Mapping[str, int]:
        """For each trend flag, how many days before the latest date the flag is true."""
        return {
            column.name: column.days_before_latest
            for column in self.columns
            if column.days_before_latest is not None
        }

    @cached_property
    def relation(self) -> ir.Table:
        """The table as an unbound Ibis table.

        All columns are nullable because Ibis can only union tables with the same nullability. The
        DDL and contract checks enforce non-nullable columns.
        """
        schema = {column.name: _ibis_type(column.stored_type) for column in self.columns}
        return ibis.table(schema, name=self.name, database=self.schema)

    def to_dagster(self) -> TableSchema:
        """Return the column schema for the Dagster UI."""
        return TableSchema(
            columns=[
                TableColumn(
                    name=column.name,
                    type=column.stored_type,
                    description=column.description,
                    constraints=TableColumnConstraints(
                        nullable=column.nullable,
                        unique=self.key == (column.name,),
                        other=_constraints_in_words(column),
                    ),
                )
                for column in self.columns
            ],
            constraints=TableConstraints(other=[f"key: {', '.join(self.key)}"]),
        )


def register(table: Table) -> None:
    """Register a declaration so that the IO manager can read and write the asset."""
    _DECLARED[table.qualified_name] = table


def declared(qualified_name: str) -> Table | None:
    """Return a table's registered declaration, or None if the table is not registered."""
    return _DECLARED.get(qualified_name)


def all_declared() -> tuple[Table, ...]:
    """Return all registered declarations."""
    return tuple(_DECLARED.values())


def _constraints_in_words(column: Column) -> list[str]:
    return list(_describe(column))


def _describe(column: Column) -> Iterable[str]:
    if column.allowed is not None:
        yield f"one of {', '.join(column.allowed)}"
    if column.references is not None:
        yield f"refers to {column.references.table}.{column.references.column}"
    if column.is_share:
        yield "between 0 and 1"
