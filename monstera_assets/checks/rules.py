"""Rules: a check is an expression for the rows that break it; none must exist.

A rule is a pure function decorated with `@rule`. Like an asset's, its positional parameters are
named after the tables it reads; its keyword-only parameters, all optional, are `policy`, `window`
(the days that the run computed) and `out_of_date` (from the name of a partitioned table to its days
that a later change of the source affects). It returns the offending rows, so that a failed check can
show them. A row whose column `not_evaluated` is not null breaks nothing: it says why something was not
evaluated, which a check that passes notes. The first paragraph of the function's docstring is the
rule's description, what holds if it passes, unless `@rule` is given another.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import duckdb
import ibis
import ibis.expr.types as ir
from dagster import AssetCheckSeverity

from monstera_assets.lifecycle.expressions import Window, window_parameters
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.compiler import Query, bind, compile_query
from monstera_assets.warehouse.source_changes import days_out_of_date
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.windows import DateWindow

NOT_EVALUATED = "not_evaluated"
"""Column of the rows that a rule returns: the reason for which a row is no violation."""

_EXAMPLES = 5
_MARKUP = re.compile(r"([\\`*\[\]|])")
"""Characters with which a cell could end, or turn into emphasis, code, a link or an image."""


class AlertLevel(StrEnum):
    """How urgent a failed check is (framework, section 9)."""

    P0 = "P0"
    """No data at all, or a broken integrity rule in a published table."""
    P1 = "P1"
    """The input of a key metric fails."""
    P2 = "P2"
    """Something drifts: look at it today."""
    P3 = "P3"
    """A slow trend."""


@dataclass(frozen=True)
class Finding:
    """The outcome of a rule: how many rows break it, and some of them."""

    rule: str
    violations: int
    columns: tuple[str, ...] = ()
    examples: tuple[tuple[object, ...], ...] = ()
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing breaks the rule."""
        return self.violations == 0

    def as_markdown(self) -> str:
        """The examples as a Markdown table; cells are escaped, since they come from data."""
        lines = [self.columns, tuple("---" for _ in self.columns), *self.examples]
        return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


@dataclass(frozen=True)
class Rule:
    """What must hold of a table; see the module's docstring.

    `reads` names the tables that the function reads where its parameters cannot, because the function
    serves tables of several names. `level` says how urgent a violation is, if not P0 for a rule that
    blocks and P2 for one that reports.
    """

    table: Table
    name: str
    description: str
    function: Callable[..., ir.Table]
    blocking: bool = True
    reads: tuple[str, ...] = ()
    level: AlertLevel | None = None

    @property
    def alert_level(self) -> AlertLevel:
        """How urgent a violation is."""
        return self.level or (AlertLevel.P0 if self.blocking else AlertLevel.P2)

    @property
    def severity(self) -> AssetCheckSeverity:
        """ERROR for a rule that blocks what comes after, WARN for one that reports."""
        return AssetCheckSeverity.ERROR if self.blocking else AssetCheckSeverity.WARN

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tables that the rule reads."""
        return self.reads or tuple(
            name
            for name, parameter in inspect.signature(self.function).parameters.items()
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY
        )

    def violations(
        self, tables: Sequence[ir.Table], *, policy: LifecyclePolicy, window: DateWindow | None
    ) -> ir.Table:
        """The rows that break the rule, for the tables named in `inputs`."""
        found = self._found(tables, policy, _of_dates(window))
        if NOT_EVALUATED not in found.columns:
            return found
        return found.filter(found[NOT_EVALUATED].isnull()).drop(NOT_EVALUATED)

    def not_evaluated(
        self, tables: Sequence[ir.Table], *, policy: LifecyclePolicy, window: DateWindow | None
    ) -> ir.Table | None:
        """The reasons for which something was not evaluated; None if the rule evaluates all."""
        found = self._found(tables, policy, _of_dates(window))
        if NOT_EVALUATED not in found.columns:
            return None
        return found.filter(found[NOT_EVALUATED].notnull()).select(NOT_EVALUATED).distinct()

    def query(self, tables: Sequence[ir.Table], policy: LifecyclePolicy) -> Query:
        """The query of all rows that the rule returns, with the days as parameters."""
        return compile_query(self._found(tables, policy, Window.parameters()))

    def _found(
        self, tables: Sequence[ir.Table], policy: LifecyclePolicy, window: Window | None
    ) -> ir.Table:
        accepts = inspect.signature(self.function).parameters
        keywords: dict[str, object] = {
            name: value
            for name, value in (
                ("policy", policy),
                ("window", window),
                ("out_of_date", days_out_of_date),
            )
            if name in accepts
        }
        return self.function(*tables, **keywords)

    def evaluate(
        self, connection: duckdb.DuckDBPyConnection, query: Query, window: DateWindow | None
    ) -> Finding:
        """Count the offending rows and fetch some of them; note what was not evaluated.

        Args:
            connection: to the warehouse.
            query: what `query` made.
            window: the days that the run computed.
        """
        if window is not None:
            bind(
                connection, dict(zip(window_parameters(), (window.first, window.last), strict=True))
            )
        if NOT_EVALUATED not in query.columns:
            return count_violations(connection, self.name, query.select)
        finding = count_violations(
            connection,
            self.name,
            f"SELECT * EXCLUDE ({NOT_EVALUATED}) FROM ({query.select})"
            f" WHERE {NOT_EVALUATED} IS NULL",
        )
        reasons = connection.execute(
            f"SELECT DISTINCT {NOT_EVALUATED} FROM ({query.select}) WHERE {NOT_EVALUATED} IS NOT NULL"
            f" ORDER BY ALL LIMIT {_EXAMPLES}"
        ).fetchall()
        return replace(finding, note="; ".join(str(reason) for (reason,) in reasons))


def rule(
    table: Table,
    description: str = "",
    *,
    blocking: bool = True,
    level: AlertLevel | None = None,
) -> Callable[[Callable[..., ir.Table]], Rule]:
    """Declare the decorated function as a rule of a table, under the function's name."""

    def decorate(function: Callable[..., ir.Table]) -> Rule:
        text = description or " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
        return Rule(table, function.__name__, text, function, blocking, level=level)

    return decorate


def count_violations(connection: duckdb.DuckDBPyConnection, name: str, select: str) -> Finding:
    """Run a query for offending rows: their number, and the first few in a fixed order."""
    counted = connection.execute(f"SELECT count(*) FROM ({select})").fetchall()
    violations = int(counted[0][0])
    if not violations:
        return Finding(name, 0)
    cursor = connection.execute(f"SELECT * FROM ({select}) ORDER BY ALL LIMIT {_EXAMPLES}")
    return Finding(
        name,
        violations,
        tuple(column[0] for column in cursor.description),
        tuple(cursor.fetchall()),
    )


def within(rows: ir.Table, column: str, window: Window) -> ir.Table:
    """The rows dated in a window."""
    return rows.filter(rows[column].between(window.first, window.last))


def differing_rows(left: ir.Table, right: ir.Table) -> ir.Table:
    """Rows that only one of two tables has, with `found_in` saying which (left or right)."""
    right = right.select(*left.columns)
    only_left = left.difference(right).mutate(found_in=ibis.literal("left"))
    only_right = right.difference(left).mutate(found_in=ibis.literal("right"))
    return only_left.union(only_right)


def _of_dates(window: DateWindow | None) -> Window | None:
    return Window.of(window.first, window.last) if window else None


def _cell(value: object) -> str:
    text = "" if value is None else " ".join(str(value).splitlines())
    return _MARKUP.sub(r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;")
