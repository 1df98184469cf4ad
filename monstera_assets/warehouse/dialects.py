"""The engines for which expressions are compiled, to find what an engine does not support.

Only DuckDB and Spark run them. The SQL for the other engines has not been run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import ibis.common.exceptions as com
import ibis.expr.operations as ops
import sqlglot.expressions as sge
from ibis.backends.sql.compilers.base import SQLGlotCompiler
from ibis.backends.sql.compilers.bigquery import BigQueryCompiler
from ibis.backends.sql.compilers.snowflake import SnowflakeCompiler
from ibis.backends.sql.compilers.trino import TrinoCompiler

from monstera_assets.lifecycle.expressions import Fold
from monstera_assets.warehouse.portable import Function, SharedOperations
from monstera_assets.warehouse.spark_compiler import DatabricksSqlCompiler, SparkCompiler


def _named(name: str, *constants: object) -> Function:
    """Return a function that calls a function of the engine, with constants as last arguments."""

    def call(compiler: Any, op: Any, *arguments: sge.Expression) -> sge.Expression:
        del op
        called: sge.Expression = compiler.f.anon[name](*arguments, *map(sge.convert, constants))
        return called

    return call


def _without_dollar(
    compiler: Any, op: Any, document: sge.Expression, path: sge.Expression
) -> sge.Expression:
    key = sge.convert(op.args[1].value.removeprefix("$."))
    del path
    text: sge.Expression = compiler.f.anon.json_extract_path_text(document, key)
    return text


class _WithReduce(SharedOperations):
    """Operations of engines that have the function `reduce`."""

    def _reduced(
        self, op: Fold, items: Any, initial: Any, body: Any, value: Any, item: Any, *last: Any
    ) -> sge.Expression:
        step = sge.Lambda(this=body, expressions=[value, item])
        reduced: sge.Expression = self.f.anon.reduce(
            items, self.cast(initial, op.dtype), step, *last
        )
        return reduced


class _BigQuery(SharedOperations, BigQueryCompiler):  # type: ignore[misc]  # Ibis has no stubs
    functions: ClassVar = {
        "bit_count": _named("bit_count"),
        "json_extract_string": _named("json_value"),
    }

    def visit_HexDigest(self, op: ops.HexDigest, *, arg: Any, how: str) -> sge.Expression:  # noqa: N802
        del op
        digest: sge.Expression = self.f.anon.to_hex(self.f.anon[how](arg))
        return digest


class _Snowflake(_WithReduce, SnowflakeCompiler):  # type: ignore[misc]
    functions: ClassVar = {"json_extract_string": _without_dollar}

    def visit_HexDigest(self, op: ops.HexDigest, *, arg: Any, how: str) -> sge.Expression:  # noqa: N802
        if how != "md5":
            raise com.UnsupportedOperationError(f"digest {how}")
        del op
        digest: sge.Expression = self.f.anon.md5_hex(arg)
        return digest

    def visit_Fold(  # type: ignore[override]  # noqa: N802
        self, op: Fold, *, items: Any, initial: Any, body: Any, value: Any, item: Any
    ) -> sge.Expression:
        return self._reduced(op, items, initial, body, value, item)


class _Trino(_WithReduce, TrinoCompiler):  # type: ignore[misc]
    functions: ClassVar = {
        "bit_count": _named("bit_count", 64),
        "json_extract_string": _named("json_extract_scalar"),
        "min": _named("min"),
    }

    def visit_HexDigest(self, op: ops.HexDigest, *, arg: Any, how: str) -> sge.Expression:  # noqa: N802
        del op
        digest = self.f.anon[how](self.f.anon.to_utf8(arg))
        text: sge.Expression = self.f.anon.lower(self.f.anon.to_hex(digest))
        return text

    def visit_Fold(  # type: ignore[override]  # noqa: N802
        self, op: Fold, *, items: Any, initial: Any, body: Any, value: Any, item: Any
    ) -> sge.Expression:
        same = sge.Lambda(this=value, expressions=[value])
        return self._reduced(op, items, initial, body, value, item, same)


COMPILERS: Mapping[str, SQLGlotCompiler] = {
    "Spark": SparkCompiler(),
    "Databricks": DatabricksSqlCompiler(),
    "BigQuery": _BigQuery(),
    "Snowflake": _Snowflake(),
    "Trino": _Trino(),
}
"""The compiler for each engine other than DuckDB."""
