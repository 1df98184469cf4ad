"""The engines for which expressions are compiled, to know which of them an engine lacks.

Only DuckDB and Spark run them. The SQL for the other engines has not been run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

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


class _Snowflake(_WithReduce, SnowflakeCompiler):  # type: ignore[misc]
    functions: ClassVar = {"json_extract_string": _named("get_path")}

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
