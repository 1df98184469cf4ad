"""Compile Ibis expressions over unbound tables to Spark SQL.

The SQL assumes a session whose time zone is UTC. Timestamps are TIMESTAMP_NTZ, as in DuckDB. Tables
are read by their names alone, since Spark's temporary views have no schema.
"""
# Over 400 lines: one method for each operation that Spark needs written differently.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import ibis
import ibis.common.exceptions as com
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.types as ir
import sqlglot as sg
import sqlglot.expressions as sge
from ibis.backends.sql.compilers.base import NULL, SQLGlotCompiler
from ibis.backends.sql.compilers.databricks import DatabricksCompiler
from ibis.backends.sql.compilers.pyspark import PySparkCompiler
from ibis.backends.sql.datatypes import PySparkType
from ibis.common.patterns import replace

from monstera_assets.lifecycle.expressions import Fold, KeyNumber
from monstera_assets.warehouse.compiler import Query
from monstera_assets.warehouse.portable import Function, SharedOperations, compile_staged

_NUMBERINGS = 256
"""The number of groups whose rows are numbered independently. A group is sorted by one task."""
_MOST_REPEATED = 50
"""Spark plans rows as often as they are read, also those of a common table expression. Planning the
check that computes all states of accounts again, in which 251 operations become 1,181, took over a
minute."""


@replace(KeyNumber)  # type: ignore[untyped-decorator]  # Ibis has no stubs
def numbered_in_groups(_: KeyNumber, **__: object) -> ops.Value:
    """Number the rows of each group of hashes, with one remainder for each group."""
    keys = [key.to_expr() for key in _.by]
    group = ibis.struct({f"key_{n}": key for n, key in enumerate(keys)}).hash() % _NUMBERINGS
    place = ibis.row_number().over(group_by=group, order_by=keys)
    return (place * _NUMBERINGS + group).cast("int64").op()


def _json_text(
    compiler: SparkOperations, op: Any, document: sge.Expression, path: sge.Expression
) -> sge.Expression:
    del op
    text: sge.Expression = compiler.f.anon.get_json_object(document, path)
    return text


def _bit_count(compiler: SparkOperations, op: Any, bits: sge.Expression) -> sge.Expression:
    del op
    count: sge.Expression = compiler.f.anon.bit_count(bits)
    return count


def _in_zone(
    compiler: SparkOperations, op: Any, zone: sge.Expression, moment: sge.Expression
) -> sge.Expression:
    """Convert an instant (TIMESTAMP) to local time (TIMESTAMP_NTZ), or local time to an instant."""
    convert = compiler.f.anon.convert_timezone
    if op.args[1].dtype.timezone is None:
        return compiler.cast(convert(zone, sge.convert("UTC"), moment), op.dtype)
    clock: sge.Expression = convert(sge.convert("UTC"), zone, compiler.cast(moment, dt.timestamp))
    return clock


def _smallest(
    compiler: SparkOperations, op: Any, values: sge.Expression, number: sge.Expression
) -> sge.Expression:
    del op
    f = compiler.f.anon
    smallest: sge.Expression = f.slice(f.array_sort(f.collect_list(values)), 1, number)
    return smallest


_FUNCTIONS: Mapping[str, Function] = {
    "bit_count": _bit_count,
    "json_extract_string": _json_text,
    "min": _smallest,
    "timezone": _in_zone,
}


class SparkTypes(PySparkType):  # type: ignore[misc]
    """Types whose meaning does not depend on the session's `spark.sql.timestampType`."""

    @classmethod
    def _from_ibis_Timestamp(cls, dtype: dt.Timestamp) -> sge.DataType:  # noqa: N802
        kinds = sge.DataType.Type
        return sge.DataType(
            this=kinds.TIMESTAMPNTZ if dtype.timezone is None else kinds.TIMESTAMPLTZ
        )


class SparkOperations(SharedOperations):
    """Operations that Ibis's compiler for Spark lacks, or whose results would differ."""

    LOWERED_OPS: ClassVar = {**SharedOperations.LOWERED_OPS, KeyNumber: numbered_in_groups}
    functions: ClassVar = _FUNCTIONS
    type_mapper = SparkTypes

    if_: Any
    quoted: Any

    def visit_Hash(self, op: ops.Hash, *, arg: sge.Expression) -> sge.Expression:  # noqa: N802
        """Use 63 bits of a 64-bit hash, as in DuckDB. The values differ from DuckDB's."""
        del op
        hashed: sge.Expression = self.f.anon.shiftrightunsigned(self.f.anon.xxhash64(arg), 1)
        return hashed

    def visit_Fold(  # type: ignore[override]  # noqa: N802
        self,
        op: Fold,
        *,
        items: sge.Expression,
        initial: sge.Expression,
        body: sge.Expression,
        value: sge.Expression,
        item: sge.Expression,
    ) -> sge.Expression:
        """Compile to Spark's own fold over an array."""
        fold: sge.Expression = self.f.anon.aggregate(
            items, self.cast(initial, op.dtype), sge.Lambda(this=body, expressions=[value, item])
        )
        return fold

    def visit_NonNullLiteral(  # noqa: N802
        self, op: ops.Literal, *, value: Any, dtype: dt.DataType
    ) -> sge.Expression | None:
        """Write floats as DOUBLE, since 0.1 is a decimal in Spark."""
        if dtype.is_floating():
            return self.cast(sge.convert(repr(float(value))), dtype)
        literal: sge.Expression | None = super().visit_NonNullLiteral(  # type: ignore[misc]
            op, value=value, dtype=dtype
        )
        return literal

    def visit_Divide(  # noqa: N802
        self, op: ops.Divide, *, left: sge.Expression, right: sge.Expression
    ) -> sge.Expression:
        """Return null for a division by zero, which would stop the query.

        Sail's `try_divide` does not accept floats.
        """
        if not op.dtype.is_floating():
            quotient: sge.Expression = self.f.anon.try_divide(left, right)
            return quotient
        dividend, divisor = (
            value if operand.dtype.is_float64() else self.cast(value, dt.float64)
            for operand, value in ((op.left, left), (op.right, right))
        )
        divisor = self.f.nullif(divisor, self.cast("0.0", dt.float64))
        return sge.paren(sge.Div(this=sge.paren(dividend), expression=divisor))

    def visit_IfElse(self, op: ops.IfElse, **parts: Any) -> sge.Expression:  # noqa: N802
        """Cast the first value, from which Sail takes the type of all values."""
        parts["true_expr"] = self._typed(op, op.true_expr, parts["true_expr"])
        choice: sge.Expression = super().visit_IfElse(op, **parts)  # type: ignore[misc]
        return choice

    def visit_SearchedCase(  # noqa: N802
        self, op: ops.SearchedCase, *, results: tuple[sge.Expression, ...], **parts: Any
    ) -> sge.Expression:
        """Cast the first value (see `visit_IfElse`)."""
        typed = (self._typed(op, op.results[0], results[0]), *results[1:])
        case: sge.Expression = super().visit_SearchedCase(  # type: ignore[misc]
            op, results=typed, **parts
        )
        return case

    def visit_WindowFunction(  # noqa: N802
        self, op: ops.WindowFunction, **parts: Any
    ) -> sge.Expression:
        """Cast the number of a row, whose type in Sail is not the one that Sail states."""
        value: sge.Expression = super().visit_WindowFunction(op, **parts)  # type: ignore[misc]
        return self.cast(value, op.dtype) if isinstance(op.func, ops.RowNumber) else value

    def _typed(self, op: ops.Value, value: ops.Value, compiled: sge.Expression) -> sge.Expression:
        if value.dtype == op.dtype or not (op.dtype.is_integer() or op.dtype.is_floating()):
            return compiled
        typed: sge.Expression = self.cast(compiled, op.dtype)
        return typed

    def visit_BitwiseLeftShift(  # noqa: N802
        self, op: ops.BitwiseLeftShift, *, left: sge.Expression, right: sge.Expression
    ) -> sge.Expression:
        """Shift 64 bits. A literal is INT in Spark, whose highest bit is the sign of the result."""
        del op
        shifted: sge.Expression = self.f.anon.shiftleft(self.cast(left, dt.int64), right)
        return shifted

    def visit_InValues(self, op: ops.InValues, **parts: Any) -> sge.Expression:  # noqa: N802
        """Add parentheses, since Spark reads `a <> b IN (c)` as `(a <> b) IN (c)`."""
        condition: sge.Expression = super().visit_InValues(op, **parts)  # type: ignore[misc]
        return sge.paren(condition)

    def visit_Between(self, op: ops.Between, **parts: Any) -> sge.Expression:  # noqa: N802
        """Add parentheses (see `visit_InValues`)."""
        condition: sge.Expression = super().visit_Between(op, **parts)  # type: ignore[misc]
        return sge.paren(condition)

    # Ibis would treat NaN as null.
    visit_Field = SQLGlotCompiler.visit_Field  # noqa: N815
    visit_IsNull = SQLGlotCompiler.visit_IsNull  # noqa: N815
    visit_NotNull = SQLGlotCompiler.visit_NotNull  # noqa: N815

    def visit_Cast(  # noqa: N802
        self, op: ops.Cast, *, arg: sge.Expression, to: dt.DataType
    ) -> sge.Expression:
        """Cast the array rather than the unnested value, since Spark nests no generator."""
        if isinstance(op.arg, ops.Unnest):
            arg.set("this", self.cast(arg.this, dt.Array(to)))
            return arg
        cast: sge.Expression = super().visit_Cast(op, arg=arg, to=to)  # type: ignore[misc]
        return cast

    def visit_TimestampDelta(  # noqa: N802
        self, op: ops.TimestampDelta, *, part: Any, left: sge.Expression, right: sge.Expression
    ) -> sge.Expression:
        """Compile to the difference of the microseconds, the only unit that expressions use."""
        if op.part.value != "microsecond":
            raise com.UnsupportedOperationError(f"difference of timestamps in {op.part.value}")
        del part
        moment = dt.Timestamp(timezone="UTC")
        start, end = (self.f.anon.unix_micros(self.cast(at, moment)) for at in (right, left))
        difference: sge.Expression = end - start
        return sge.paren(difference)

    def visit_IntervalFromInteger(  # noqa: N802
        self, op: ops.IntervalFromInteger, *, arg: sge.Expression, unit: Any
    ) -> sge.Expression:
        """Compile days to an interval without text between."""
        if unit.short != "D":
            raise com.UnsupportedOperationError(f"interval in {unit.plural}")
        del op
        interval: sge.Expression = self.f.anon.make_dt_interval(arg)
        return interval

    def visit_IntegerRange(  # noqa: N802
        self,
        op: ops.IntegerRange,
        *,
        start: sge.Expression,
        stop: sge.Expression,
        step: sge.Expression,
    ) -> sge.Expression:
        """Compile to one sequence. Ibis's own evaluates the sequence four times."""
        if not isinstance(op.step, ops.Literal) or op.step.value != 1:
            raise com.UnsupportedOperationError("range with steps other than 1")
        del step
        sequence = self.f.anon.sequence(start, sge.paren(stop) - 1)
        empty = self.cast(self.f.anon.array(), op.dtype)
        numbers: sge.Expression = self.if_(start < stop, self.cast(sequence, op.dtype), empty)
        return numbers

    def visit_ArrayIndex(  # noqa: N802
        self, op: ops.ArrayIndex, *, arg: sge.Expression, index: sge.Expression
    ) -> sge.Expression:
        """Return null if there is no such element, and count negative indices from the end."""
        if isinstance(op.index, ops.Literal) and op.index.value >= 0:
            element: sge.Expression = self.f.anon.get(arg, index)
            return element
        counted = self.if_(index < 0, index, sge.paren(index) + 1)
        found: sge.Expression = self.f.anon.try_element_at(arg, self.cast(counted, dt.int32))
        return found

    def visit_Median(  # noqa: N802
        self, op: ops.Median, *, arg: sge.Expression, where: sge.Expression | None
    ) -> sge.Expression:
        """Put the condition into the argument."""
        del op
        chosen = arg if where is None else self.if_(where, arg, NULL)
        median: sge.Expression = self.f.anon.percentile(chosen, self.cast("0.5", dt.float64))
        return median

    def visit_BitOr(  # noqa: N802
        self, op: ops.BitOr, *, arg: sge.Expression, where: sge.Expression | None
    ) -> sge.Expression:
        """Compile to Spark's own aggregate."""
        del op
        chosen = arg if where is None else self.if_(where, arg, NULL)
        union: sge.Expression = self.f.anon.bit_or(chosen)
        return union

    def visit_First(  # noqa: N802
        self,
        op: ops.First,
        *,
        arg: sge.Expression,
        where: sge.Expression | None,
        order_by: Sequence[sge.Ordered],
        include_null: bool,
    ) -> sge.Expression:
        """Sort the values, since Spark's aggregates have no order."""
        if not order_by:
            first: sge.Expression = super().visit_First(  # type: ignore[misc]
                op, arg=arg, where=where, order_by=order_by, include_null=include_null
            )
            return first
        values = self._in_order(arg, where, order_by, include_null=include_null)
        value: sge.Expression = self.f.anon.get(values, sge.convert(0))
        return value

    def visit_ArrayCollect(  # noqa: N802
        self,
        op: ops.ArrayCollect,
        *,
        arg: sge.Expression,
        where: sge.Expression | None,
        order_by: Sequence[sge.Ordered],
        include_null: bool,
        distinct: bool,
    ) -> sge.Expression:
        """Sort the values, since Spark's aggregates have no order. No values are null, as in DuckDB."""
        if not order_by:
            collected: sge.Expression = super().visit_ArrayCollect(  # type: ignore[misc]
                op,
                arg=arg,
                where=where,
                order_by=order_by,
                include_null=include_null,
                distinct=distinct,
            )
            return collected
        values = self._in_order(arg, where, order_by, include_null=include_null)
        array: sge.Expression = self.if_(self.f.anon.size(values).eq(0), NULL, values)
        return array

    def visit_GroupConcat(  # noqa: N802
        self,
        op: ops.GroupConcat,
        *,
        arg: sge.Expression,
        sep: sge.Expression,
        where: sge.Expression | None,
        order_by: Sequence[sge.Ordered],
    ) -> sge.Expression:
        """Sort the values, since Spark's aggregates have no order."""
        del op
        values = self._in_order(arg, where, order_by, include_null=False)
        joined = self.f.anon.array_join(values, sep)
        text: sge.Expression = self.if_(self.f.anon.size(values).eq(0), NULL, joined)
        return text

    def _in_order(
        self,
        arg: sge.Expression,
        where: sge.Expression | None,
        order_by: Sequence[sge.Ordered],
        *,
        include_null: bool,
    ) -> sge.Expression:
        """Return an aggregate: an array of the values, sorted by keys next to them."""
        keys = {f"key_{number}": key for number, key in enumerate(order_by)}
        fields = [part for name, key in keys.items() for part in (sge.convert(name), key.this)]
        collected: sge.Expression = self.f.anon.collect_list(
            self.f.anon.named_struct(*fields, sge.convert("value"), arg)
        )
        conditions: list[sge.Expression] = [] if include_null else [arg.is_(sg.not_(NULL))]
        conditions += [] if where is None else [where]
        if conditions:
            chosen = sge.Where(this=sg.and_(*conditions))
            collected = sge.Filter(this=collected, expression=chosen)
        if keys:
            collected = self.f.anon.array_sort(collected, _comparison(keys))
        row = sg.to_identifier("row")
        value = sge.Lambda(this=_field(row, "value"), expressions=[row])
        values: sge.Expression = self.f.anon.transform(collected, value)
        return values


def _field(struct: sge.Expression, name: str) -> sge.Expression:
    return sge.Dot(this=struct.copy(), expression=sg.to_identifier(name))


def _comparison(keys: dict[str, sge.Ordered]) -> sge.Expression:
    """Return a function of two structs that is negative if the first comes before the second."""
    left, right = sg.to_identifier("left_row"), sg.to_identifier("right_row")
    case = sge.Case(ifs=[])
    for name, key in keys.items():
        one, other = _field(left, name), _field(right, name)
        null_first = -1 if key.args.get("nulls_first") else 1
        lower_first = 1 if key.args.get("desc") else -1
        for condition, result in (
            (sg.and_(one.is_(NULL), other.is_(sg.not_(NULL))), null_first),
            (sg.and_(other.is_(NULL), one.is_(sg.not_(NULL))), -null_first),
            (one < other, lower_first),
            (one > other, -lower_first),
        ):
            case = case.when(condition, sge.convert(result))
    return sge.Lambda(this=case.else_(sge.convert(0)), expressions=[left, right])


class SparkCompiler(SparkOperations, PySparkCompiler):  # type: ignore[misc]  # Ibis has no stubs
    """Ibis's Spark compiler, extended with this project's operations."""

    def visit_UnboundTable(  # noqa: N802
        self, op: ops.UnboundTable, *, name: str, schema: Any, namespace: ops.Namespace
    ) -> sge.Table:
        """Read a temporary view. Its name begins with the schema, as do the names of tables."""
        del op, schema
        view = sg.to_identifier(view_name(namespace.database, name), quoted=self.quoted)
        return sge.Table(this=view)

    def translated(self, statement: str) -> Any:
        """Parse a query in DuckDB's dialect, and replace the names of tables with those of views."""
        tree = super().translated(statement)
        for found in tree.find_all(sge.Table):
            name = view_name(found.db or None, found.name)
            found.replace(sge.table_(name, quoted=True, alias=found.alias or None))
        return tree


class DatabricksSqlCompiler(SparkOperations, DatabricksCompiler):  # type: ignore[misc]
    """Ibis's Databricks compiler, extended with this project's operations."""


_COMPILER = SparkCompiler()


def view_name(schema: str | None, table: str) -> str:
    """Return the name of the temporary view from which Spark SQL reads a table."""
    return table if schema is None or table.startswith(f"{schema}_") else f"{schema}_{table}"


def translate_duckdb(statement: str) -> str:
    """Translate a query in DuckDB's dialect, which reads tables by their schema and name."""
    return str(_COMPILER.translated(statement).sql(dialect=_COMPILER.dialect))


def compile_spark(expression: ir.Table) -> Query:
    """Compile an Ibis expression over unbound tables to Spark SQL.

    Raises:
        ibis.common.exceptions.IbisError: If Spark lacks an operation of the expression.
    """
    return compile_staged(expression, _COMPILER, _MOST_REPEATED)
