"""Map declared tables to Iceberg schemas.

The trend flags are not stored: they depend on the table's latest day, so each commit would rewrite
the files of earlier days. `reading` computes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import ibis.expr.datatypes as dt
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import DayTransform
from pyiceberg.types import (
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
)

from monstera_assets.warehouse.errors import SchemaMismatchError
from monstera_assets.warehouse.tables import Table

_FIRST_PARTITION_FIELD = 1000  # by the Iceberg specification


def iceberg_schema(table: Table) -> Schema:
    """Return the schema of the stored columns, which are all optional.

    Parquet files do not say that a column has no nulls, so Iceberg does not accept a file for a
    required column. The contract checks verify non-nullable columns.

    Raises:
        SchemaMismatchError: If Iceberg has no type for a column.
    """
    ids = count(1)
    return Schema(*_fields(table, ids))


def partition_spec(table: Table, schema: Schema) -> PartitionSpec:
    """Return the partitioning: by day for a daily table, none for another table."""
    if table.partition_column is None:
        return UNPARTITIONED_PARTITION_SPEC
    return PartitionSpec(
        PartitionField(
            source_id=schema.find_field(table.partition_column).field_id,
            field_id=_FIRST_PARTITION_FIELD,
            transform=DayTransform(),
            name=f"{table.partition_column}_day",
        )
    )


def columns_to_add(table: Table, stored: Schema) -> list[NestedField]:
    """Compare the stored columns with the declaration and return the declared columns to add.

    Raises:
        SchemaMismatchError: If a stored column has another type or is not declared.
    """
    declared = {field.name: field for field in iceberg_schema(table).fields}
    found = {field.name: field for field in stored.fields}
    problems = [
        *(f"{name} is not declared" for name in found.keys() - declared.keys()),
        *(
            f"{name} is {found[name].field_type} but is declared as {declared[name].field_type}"
            for name in found.keys() & declared.keys()
            if not _same_type(found[name].field_type, declared[name].field_type)
        ),
    ]
    if problems:
        raise SchemaMismatchError(
            f"{table.qualified_name} was written with a different declaration:"
            f" {'; '.join(sorted(problems))}. Drop the Iceberg table or use another warehouse, then"
            " materialize all of the table's partitions again."
        )
    return [field for name, field in declared.items() if name not in found]


def _fields(table: Table, ids: Iterator[int]) -> Iterator[NestedField]:
    for column in table.data_columns:
        try:
            kind = _iceberg_type(column.dtype, ids)
        except TypeError as error:
            raise SchemaMismatchError(
                f"{table.qualified_name}.{column.name} is declared as {column.type}, which Iceberg"
                " tables cannot store. Declare another type."
            ) from error
        yield NestedField(
            field_id=next(ids),
            name=column.name,
            field_type=kind,
            required=False,
            doc=column.description,
        )


def _iceberg_type(dtype: dt.DataType, ids: Iterator[int]) -> IcebergType:
    match dtype:
        case dt.Boolean():
            return BooleanType()
        case dt.Int8() | dt.Int16() | dt.Int32() | dt.UInt8() | dt.UInt16():
            return IntegerType()
        case dt.Int64() | dt.UInt32():
            return LongType()
        case dt.Float32():
            return FloatType()
        case dt.Float64():
            return DoubleType()
        case dt.Decimal(precision=int(), scale=int()):
            return DecimalType(dtype.precision, dtype.scale)
        case dt.String() | dt.JSON():
            return StringType()
        case dt.Date():
            return DateType()
        case dt.Timestamp() if (dtype.scale or 0) <= 6:  # Iceberg's timestamps have microseconds
            return TimestamptzType() if dtype.timezone else TimestampType()
        case dt.Array():
            return ListType(
                element_id=next(ids),
                element_type=_iceberg_type(dtype.value_type, ids),
                element_required=False,
            )
        case dt.Struct():
            return StructType(
                *(
                    NestedField(
                        field_id=next(ids),
                        name=name,
                        field_type=_iceberg_type(kind, ids),
                        required=False,
                    )
                    for name, kind in dtype.items()
                )
            )
    raise TypeError(dtype)


def _same_type(left: IcebergType, right: IcebergType) -> bool:
    """Return whether types are equal, apart from the ids of their fields."""
    match left, right:
        case ListType(), ListType():
            return _same_type(left.element_type, right.element_type)
        case StructType(), StructType():
            return [field.name for field in left.fields] == [
                field.name for field in right.fields
            ] and all(
                _same_type(one.field_type, other.field_type)
                for one, other in zip(left.fields, right.fields, strict=True)
            )
    return bool(left == right)
