"""Define rules, which are checks for individual tables.

A rule is a pure function decorated with `@rule`. As with assets, its positional parameters are
named after the tables that the rule reads. The keyword-only parameters, all optional, are `policy`,
`window` (the days that the run computed) and `out_of_date` (a function that maps a partitioned
table's name to the days affected by a later source change).

The function returns the rows that break the rule, and a failed check shows some of these rows. A row
with a non-null `not_evaluated` value is not a violation. The value explains why something was not
evaluated, and a passing check shows the value as a note.

The first paragraph of the function's docstring describes what is true if the rule passes. The check
uses this paragraph as its description unless `@rule` specifies a different description.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

import ibis
import ibis.expr.types as ir
from dagster import AssetCheckSeverity

from monstera_assets.lifecycle.expressions import Window
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.compiler import Query
from monstera_assets.warehouse.engine import Engine, Evaluation
from monstera_assets.warehouse.extras import without_tables
from monstera_assets.warehouse.source_changes import days_out_of_date
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.windows import DateWindow

NOT_EVALUATED = "not_evaluated"
"""The column in a rule's result that explains why a row is not a violation."""

_MARKUP = re.compile(r"([\\`*\[\]|])")
"""Characters that could end a table cell or start emphasis, code, a link or an image."""


class AlertLevel(StrEnum):
    """The urgency of a failed check (framework, section 9)."""

    P0 = "P0"
    """There is no data, or a published table violates an integrity rule."""
    P1 = "P1"
    """A check on an input to a key metric fails."""
    P2 = "P2"
    """A value is drifting and should be investigated today."""
    P3 = "P3"
    """A value shows a slow trend."""


RESPONSES: Mapping[AlertLevel, tuple[str, str]] = {
    AlertLevel.P0: ("Correct the source or the definition. Then run the days again.", ""),
    AlertLevel.P1: (
        "Look for rejected rows, missing files and wrong dates. Correct the source, and run the days"
        " again.",
        "monstera check",
    ),
    AlertLevel.P2: (
        "Find out today what has changed in the product or in the source.",
        "monstera dashboard",
    ),
    AlertLevel.P3: ("Review the trend this week.", "monstera dashboard"),
}
"""What to do about a failed check if its rule has no remedy, and the command to start with, by default
the same run again."""


@dataclass(frozen=True)
class Finding:
    """The outcome of a rule: the number of rows that break the rule, and a few examples."""

    rule: str
    violations: int
    columns: tuple[str, ...] = ()
    examples: tuple[tuple[object, ...], ...] = ()
    note: str = ""

    @property
    def passed(self) -> bool:
        """Return whether no rows break the rule."""
        return self.violations == 0

    @property
    def observed(self) -> str:
        """Return the first metric and its expected value, or the number of rows that break the rule."""
        if not self.examples:
            return self.note or f"{self.violations:,} violations."
        first = {
            name: _shown(value) for name, value in zip(self.columns, self.examples[0], strict=True)
        }
        more = f", and {self.violations - 1:,} more" if self.violations > 1 else ""
        if {"metric", "observed", "expected"} <= first.keys():
            return f"{first['metric']}: {first['observed']}, expected {first['expected']}{more}."
        one = self.violations == 1
        return (
            f"{self.violations:,} row{'' if one else 's'} that break{'s' if one else ''} the rule."
        )

    def as_markdown(self) -> str:
        """Return the examples as a Markdown table with escaped cells."""
        lines = [self.columns, tuple("---" for _ in self.columns), *self.examples]
        return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


@dataclass(frozen=True)
class Rule:
    """A condition that must be true for a table, as described in the module docstring.

    `reads` lists the tables that the function reads. `reads` is required if several tables share the
    function, since the function's parameters cannot be named after the tables. `level` is the alert
    level for a violation. The default level is P0 if the rule blocks downstream tables, and P2
    otherwise. `remedy` is a sentence about what to do after a violation, by default that of the level.
    """

    table: Table
    name: str
    description: str
    function: Callable[..., ir.Table]
    blocking: bool = True
    reads: tuple[str, ...] = ()
    level: AlertLevel | None = None
    remedy: str = ""

    @property
    def alert_level(self) -> AlertLevel:
        """Return the alert level for a violation."""
        return self.level or (AlertLevel.P0 if self.blocking else AlertLevel.P2)

    @property
    def severity(self) -> AssetCheckSeverity:
        """Return ERROR if the rule blocks downstream tables, and WARN otherwise."""
        return AssetCheckSeverity.ERROR if self.blocking else AssetCheckSeverity.WARN

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the tables that the rule reads."""
        return self.reads or tuple(
            name
            for name, parameter in inspect.signature(self.function).parameters.items()
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY
        )

    def without(self, absent: Mapping[str, Table]) -> Rule:
        """Return the rule with an empty table in place of each absent table that the rule reads."""
        return replace(self, function=without_tables(self.function, absent))

    def violations(
        self, tables: Sequence[ir.Table], *, policy: LifecyclePolicy, window: DateWindow | None
    ) -> ir.Table:
        """Return the rows that break the rule, given the tables listed in `inputs`."""
        found = self._found(tables, policy, _of_dates(window))
        if NOT_EVALUATED not in found.columns:
            return found
        return found.filter(found[NOT_EVALUATED].isnull()).drop(NOT_EVALUATED)

    def not_evaluated(
        self, tables: Sequence[ir.Table], *, policy: LifecyclePolicy, window: DateWindow | None
    ) -> ir.Table | None:
        """Return the `not_evaluated` reasons, or None if the rule does not return that column."""
        found = self._found(tables, policy, _of_dates(window))
        if NOT_EVALUATED not in found.columns:
            return None
        return found.filter(found[NOT_EVALUATED].notnull()).select(NOT_EVALUATED).distinct()

    def rows(self, tables: Sequence[ir.Table], policy: LifecyclePolicy) -> ir.Table:
        """Return all rows that the rule returns, with the days as query parameters."""
        return self._found(tables, policy, Window.parameters())

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

    def evaluate(self, engine: Engine, query: Query, window: DateWindow | None) -> Finding:
        """Count the rows that break the rule, fetch some of the rows and note what was not evaluated.

        Args:
            engine: the open warehouse.
            query: the query, compiled from the result of the `rows` method.
            window: the days that the run computed.
        """
        return as_finding(self.name, engine.evaluate(query, window, NOT_EVALUATED))


def rule(
    table: Table,
    description: str = "",
    *,
    blocking: bool = True,
    level: AlertLevel | None = None,
    remedy: str = "",
) -> Callable[[Callable[..., ir.Table]], Rule]:
    """Declare the decorated function as a table's rule. The rule has the same name as the function."""

    def decorate(function: Callable[..., ir.Table]) -> Rule:
        text = description or " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
        return Rule(table, function.__name__, text, function, blocking, level=level, remedy=remedy)

    return decorate


def as_finding(name: str, found: Evaluation) -> Finding:
    """Return an engine's evaluation as the finding of the rule with this name."""
    columns, rows = found.examples
    return Finding(name, found.violations, columns, tuple(rows), "; ".join(found.reasons))


def within(rows: ir.Table, column: str, window: Window) -> ir.Table:
    """Return the rows whose date falls within a window."""
    return rows.filter(rows[column].between(window.first, window.last))


def differing_rows(left: ir.Table, right: ir.Table) -> ir.Table:
    """Return the rows found in only one of two tables, with `found_in` set to left or right."""
    right = right.select(*left.columns)
    only_left = left.difference(right).mutate(found_in=ibis.literal("left"))
    only_right = right.difference(left).mutate(found_in=ibis.literal("right"))
    return only_left.union(only_right)


def _of_dates(window: DateWindow | None) -> Window | None:
    return Window.of(window.first, window.last) if window else None


def with_values(text: str, policy: LifecyclePolicy) -> str:
    """Return a description with the values of thresholds in place of their names."""
    values = {**dict(policy), **dict(policy.alerts)}

    def value(name: re.Match[str]) -> str:
        found = values.get(name[0])
        if isinstance(found, float):
            return f"{found * 100:g}%"
        return str(found) if isinstance(found, int) else name[0]

    return re.sub(r"\b[a-z]+(?:_[a-z]+)+\b", value, text)


def _shown(value: object) -> str:
    """Return a value as text, with three significant digits if it is not whole."""
    if isinstance(value, float | Decimal):
        number = float(value)
        return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"
    return "" if value is None else " ".join(str(value).splitlines())


def _cell(value: object) -> str:
    text = _shown(value)
    return _MARKUP.sub(r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;")
