"""Build a table's Dagster checks, which evaluate the contract and all rules in a single step.

If evaluating a rule raises an error, the check is recorded as failed. Alerts are based on check
evaluations, and an uncaught error would not record an evaluation.
"""

from collections.abc import Callable, Iterator, Sequence

import ibis.expr.types as ir
from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    MetadataValue,
    multi_asset_check,
)
from dagster._core.definitions.metadata import RawMetadataValue

from monstera_assets.checks.contract import DESCRIPTIONS, contract_rules, evaluate_contract
from monstera_assets.checks.rules import AlertLevel, Finding, Rule, with_values
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.archive import RAW_TABLES
from monstera_assets.warehouse.compiler import Query
from monstera_assets.warehouse.engine import Engine
from monstera_assets.warehouse.query_cache import QueryCache
from monstera_assets.warehouse.resource import Warehouse
from monstera_assets.warehouse.table_asset import asset_key
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.windows import DateWindow, window_of_run

LEVEL = "alert_level"
"""Metadata key for the alert level of a failed check."""
REMEDY = "what_to_do"
"""Metadata key for what to do about a failed check."""


def build_table_checks(
    table: Table,
    rules: Sequence[Rule],
    relations: Callable[[str], ir.Table],
    policy: LifecyclePolicy,
    queries: QueryCache | None = None,
) -> AssetChecksDefinition:
    """Return all checks for a table: the contract checks, which are always blocking, and the rules.

    Args:
        table: the table's declaration.
        rules: the table's rules.
        relations: a function that returns the unbound Ibis table with a given name.
        policy: the thresholds.
        queries: a cache of queries compiled for `policy`.
    """
    known = queries or QueryCache()
    key = asset_key(table.name)
    contract = contract_rules(table)
    specs = [
        *(
            AssetCheckSpec(name, asset=key, description=DESCRIPTIONS[name], blocking=True)
            for name in contract
        ),
        *(
            AssetCheckSpec(
                rule.name,
                asset=key,
                description=rule.description,
                blocking=rule.blocking,
                additional_deps=[asset_key(name) for name in rule.inputs if name != table.name],
            )
            for rule in rules
        ),
    ]

    def query_of(rule: Rule) -> Callable[[], Query]:
        def compile_it() -> Query:
            rows = rule.rows([relations(name) for name in rule.inputs], policy)
            return known.compile_query(rows)

        in_package = rule.function.__module__.split(".")[0] == __name__.split(".")[0]
        return lambda: known.get(f"{table.name}.{rule.name}", compile_it, keep=in_package)

    @multi_asset_check(
        name=f"check_{table.name}",
        specs=specs,
        can_subset=True,
        description=f"The contract and rules for {table.name}.",
    )
    def check(
        context: AssetCheckExecutionContext, warehouse: Warehouse
    ) -> Iterator[AssetCheckResult]:
        selected = {check_key.name for check_key in context.selected_asset_check_keys}
        with warehouse.open() as engine:
            window = _window(context, engine, table)
            if selected & set(contract):
                for finding in _contract_findings(engine, table, window):
                    if finding.rule in selected:
                        expected = DESCRIPTIONS[finding.rule]
                        yield check_result(
                            finding, key, AssetCheckSeverity.ERROR, AlertLevel.P0, expected
                        )
            for rule in rules:
                if rule.name in selected:
                    finding = _rule_finding(engine, rule, query_of(rule), window)
                    expected = with_values(rule.description, policy)
                    yield check_result(
                        finding, key, rule.severity, rule.alert_level, expected, rule.remedy
                    )

    return check


def _contract_findings(
    engine: Engine, table: Table, window: DateWindow | None
) -> Sequence[Finding]:
    try:
        return list(evaluate_contract(engine, table, window).values())
    except Exception as error:
        return [Finding(name, 1, note=not_evaluated(error)) for name in contract_rules(table)]


def _rule_finding(
    engine: Engine,
    rule: Rule,
    query: Callable[[], Query],
    window: DateWindow | None,
) -> Finding:
    if rule.table.partition_column is not None and window is None:
        return Finding(rule.name, 0, note="no partitions have been materialized yet")
    try:
        return rule.evaluate(engine, query(), _open_days(engine, rule, window))
    except Exception as error:
        return Finding(rule.name, 1, note=not_evaluated(error))


def _open_days(engine: Engine, rule: Rule, window: DateWindow | None) -> DateWindow | None:
    """Return the days to check, limited to days with raw events if the rule reads raw events."""
    archived = engine.archive() if window and set(rule.inputs) & set(RAW_TABLES) else None
    if window is None or archived is None or archived.open_from <= window.first:
        return window
    return DateWindow(min(archived.open_from, window.last), window.last)


def check_result(
    finding: Finding,
    key: AssetKey,
    severity: AssetCheckSeverity,
    level: AlertLevel,
    expected: str,
    remedy: str = "",
) -> AssetCheckResult:
    """Return the result of a check, with the metadata that alerts show."""
    metadata: dict[str, RawMetadataValue] = {
        "violations": MetadataValue.int(finding.violations),
        LEVEL: MetadataValue.text(str(level)),
    }
    if not finding.passed:
        metadata["expected"] = MetadataValue.text(expected)
        metadata["observed"] = MetadataValue.text(finding.observed)
        if remedy:
            metadata[REMEDY] = MetadataValue.text(remedy)
    if finding.examples:
        metadata["examples"] = MetadataValue.md(finding.as_markdown())
    if finding.note:
        metadata["note"] = MetadataValue.text(finding.note)
    return AssetCheckResult(
        asset_key=key,
        check_name=finding.rule,
        passed=finding.passed,
        severity=severity,
        metadata=metadata,
        description=finding.note or None,
    )


def not_evaluated(error: Exception) -> str:
    """Return the note of a check whose evaluation raised an error."""
    return f"could not be evaluated: {type(error).__name__}: {error}"


def _window(context: AssetCheckExecutionContext, engine: Engine, table: Table) -> DateWindow | None:
    """Return the days in the run's partitions, or all materialized days if the run is unpartitioned.

    If the first partition also contains rows for earlier days, the earlier days are included.
    """
    if table.partition_column is None:
        return None
    stored = engine.materialized_window(table)
    window = window_of_run(context.run.tags)
    if window is None:
        return stored
    if table.takes_earlier_rows and stored is not None and window.first == stored.first:
        earliest, _ = engine.ends(table, table.partition_column)
        return DateWindow(min(window.first, earliest or window.first), window.last)
    return window
