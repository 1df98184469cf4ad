"""Check the ledger of an import: no row is uncounted, and most rows can be used.

The checks of the asset `landed_source` read only `imports.parquet`, `revenue_movements.parquet` and the
row counts of the landed files, so they take no longer for a larger source.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    multi_asset_check,
)

from monstera_assets.checks.rules import AlertLevel, Finding, as_finding, with_values
from monstera_assets.checks.table_checks import check_result, not_evaluated
from monstera_assets.imports import LANDED_SOURCE, landing
from monstera_assets.imports.billing_facts import differing_movements
from monstera_assets.imports.event_rows import DESCRIBED, LANDED, MALFORMED, REASONS
from monstera_assets.settings import Settings
from monstera_assets.settings.imports import ImportKind
from monstera_assets.source.sql import literal
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine

_COUNTED = " + ".join((LANDED, DESCRIBED, MALFORMED, *REASONS))
_OF_IMPORT = "import || ' (' || kind || ')'"


@dataclass(frozen=True)
class LedgerCheck:
    """A condition. `select` returns what breaks it, with the columns metric, observed and expected.

    Attributes:
        name: the check's name.
        description: what the check requires.
        select: the query, which reads `file` as the relation `ledger`.
        remedy: what to do if the check fails.
        blocking: whether a failure stops what follows.
        file: the file in the source folder.
        without_file: why the check passes if the file does not exist. If empty, it fails then.
    """

    name: str
    description: str
    select: str
    remedy: str
    blocking: bool = False
    file: str = landing.LEDGER
    without_file: str = ""


def ledger_checks(settings: Settings) -> tuple[LedgerCheck, ...]:
    """Return the checks of the ledger, and with an import of Stripe, that of its movements.

    The queries list the files that lie there now.
    """
    source, policy = settings.source, settings.policy
    movements = LedgerCheck(
        "revenue_reconciles_with_stripe",
        "For each subscription, currency and day, revenue moves as in Stripe's own"
        " subscription_item_change_events, up to one minor unit of the currency.",
        differing_movements("ledger"),
        "Compare the facts of these subscriptions with Stripe, as docs/how-to/import/stripe.md"
        " describes. Most often, the archive of events or the file of movements is incomplete.",
        file=landing.MOVEMENTS,
        without_file="No export contains subscription_item_change_events.",
    )
    most, least = policy.max_rejected_share, policy.alerts.min_schema_compliance
    enough, few = policy.alerts.min_alert_population, round(1 - least, 9)
    return (
        LedgerCheck(
            "rows_add_up",
            "For each raw file, landed, described, malformed and set-aside rows add up to the rows"
            " read.",
            f"SELECT 'counted rows of ' || raw_file AS metric, {_COUNTED} AS observed,"
            f" rows_read AS expected FROM ledger WHERE {_COUNTED} <> rows_read",
            "Import all files again with monstera import --rebuild. If the check still fails, compare"
            " the raw file with its row in imports.parquet.",
            blocking=True,
        ),
        LedgerCheck(
            "landed_rows_are_in_the_source",
            "The source contains as many events and deletions as the ledger counts as landed.",
            "SELECT 'events in the source' AS metric, found AS observed, landed AS expected"
            f" FROM ({_landed_rows(source)}), (SELECT coalesce(sum(landed), 0)::BIGINT AS landed"
            f" FROM ledger WHERE kind <> '{ImportKind.STRIPE}') WHERE found <> landed",
            "The source's files were changed after the import. Write them again with monstera import.",
            blocking=True,
        ),
        LedgerCheck(
            "most_rows_are_used",
            "At least one row landed. In each import, and in each raw file with enough rows, at most"
            " max_rejected_share of the rows are malformed, and at most max_rejected_share have no"
            " account.",
            "SELECT 'landed rows' AS metric, 0::DOUBLE AS observed, 1::DOUBLE AS expected"
            f" FROM ledger HAVING sum(landed) = 0 UNION ALL {_lost(most, of_import=1, of_file=enough)}",
            "Compare the raw files and the setting account with docs/how-to/importing.md. Correct the"
            " export or monstera.toml, then run monstera import.",
            blocking=True,
        ),
        LedgerCheck(
            "few_rows_are_lost",
            "In each import and each raw file with enough rows, at least min_schema_compliance of the"
            " rows can be read, and at least min_schema_compliance have an account.",
            _lost(few, of_import=enough, of_file=enough),
            "Find the raw files in imports.parquet. Correct the export or the setting account, then run"
            " monstera import.",
        ),
        LedgerCheck(
            "users_are_known",
            "In each import with enough events, at most min_schema_compliance of the events are"
            " anonymous or before their user's signup.",
            f"""SELECT {_OF_IMPORT} || ': anonymous or before signup' AS metric,
                lost / rows AS observed, {least} AS expected
            FROM (SELECT import, kind, sum(anonymous + before_signup) AS lost,
                sum(landed + anonymous + before_signup) AS rows FROM ledger GROUP BY ALL)
            WHERE rows >= {enough} AND lost > {least} * rows""",
            "Check that the export contains the files that identify users, such as persons, profiles or"
            " merged ids. To count visitors as users, set anonymous to keep.",
        ),
        LedgerCheck(
            "raw_files_are_present",
            "All raw files that were imported still exist.",
            "SELECT raw_file, import, landed FROM ledger WHERE NOT is_present",
            "Restore the files. If they were removed on purpose, remove their rows with monstera import"
            " --rebuild. Otherwise, their rows stay.",
        ),
        LedgerCheck(
            "raw_files_are_recognized",
            "At least min_schema_compliance of an import's bytes are in files that come from the tool.",
            f"""SELECT {_OF_IMPORT} || ': bytes in files that are not recognized' AS metric,
                unread / all_bytes AS observed, {few} AS expected
            FROM (SELECT import, kind, sum(bytes)::DOUBLE AS all_bytes,
                coalesce(sum(bytes) FILTER (content = 'not recognized'), 0) AS unread
                FROM ledger GROUP BY ALL)
            WHERE unread > {few} * all_bytes""",
            "Find the files in imports.parquet, where content is not recognized. Move them to the"
            " folder of their tool's import, or correct kind.",
        ),
        *([movements] if _has_stripe(settings) else []),
    )


def _has_stripe(settings: Settings) -> bool:
    return any(each.kind is ImportKind.STRIPE for each in settings.imports)


def _lost(share: float, *, of_import: int, of_file: int) -> str:
    """Return a query for imports and files that lose more than a share of their rows.

    Args:
        share: the maximum share.
        of_import: the minimum number of rows of an import.
        of_file: the minimum number of rows of a file.
    """
    # Rows without an account are compared with those that do not only describe.
    return f"""SELECT metric, round(lost / rows, 9) AS observed, {share}::DOUBLE AS expected
        FROM (SELECT {_OF_IMPORT} || ': malformed' AS metric, sum(malformed) AS lost,
                sum(rows_read) AS rows, {of_import} AS least
            FROM ledger GROUP BY import, kind
            UNION ALL
            SELECT {_OF_IMPORT} || ': without an account', sum(no_account),
                sum(rows_read - described), {of_import}
            FROM ledger GROUP BY import, kind
            UNION ALL
            SELECT raw_file || ': malformed', malformed, rows_read, {of_file} FROM ledger)
        WHERE rows >= least AND round(lost / rows, 9) > {share}"""


def _landed_rows(source: Path) -> str:
    """Return a query for the number of events and deletions that a raw row became."""
    # A deletion that a user's row states is no row of its own. Its id is made from the user's.
    deletions = (
        f"SELECT count(*) AS rows FROM read_parquet({literal(str(source))} ||"
        " '/subscription_events.parquet') WHERE event_type = 'user_deleted'"
        " AND event_id <> 'deleted-' || entity_id"
    )
    days = sorted(map(str, source.glob("events/event_date=*/events.parquet")))
    events = "SELECT 0 AS rows"
    if days:
        listed = ", ".join(map(literal, days))
        events = f"SELECT count(*) AS rows FROM read_parquet([{listed}])"
    return f"SELECT sum(rows)::BIGINT AS found FROM ({events} UNION ALL {deletions})"


def build_ledger_checks(settings: Settings, key: AssetKey) -> AssetChecksDefinition:
    """Return the checks of the asset that imports.

    Args:
        settings: the configuration.
        key: the asset's key.
    """
    declared = ledger_checks(settings)

    @multi_asset_check(
        name=f"check_{LANDED_SOURCE}",
        specs=[
            AssetCheckSpec(
                each.name, asset=key, description=each.description, blocking=each.blocking
            )
            for each in declared
        ],
        can_subset=True,
        description="The checks of the ledger of raw files.",
    )
    def check(context: AssetCheckExecutionContext) -> Iterator[AssetCheckResult]:
        selected = {check_key.name for check_key in context.selected_asset_check_keys}
        for each in ledger_checks(settings):
            if each.name in selected:
                severity = AssetCheckSeverity.ERROR if each.blocking else AssetCheckSeverity.WARN
                level = AlertLevel.P0 if each.blocking else AlertLevel.P2
                expected = with_values(each.description, settings.policy)
                finding = evaluate(each, settings.source)
                yield check_result(finding, key, severity, level, expected, each.remedy)

    return check


def evaluate(check: LedgerCheck, source: Path) -> Finding:
    """Evaluate a check. If this raises an error, the check fails with the error as its note."""
    path = source / check.file
    if check.without_file and not path.exists() and (source / landing.LEDGER).exists():
        return Finding(check.name, 0, note=check.without_file)
    ledger = literal(str(path))
    try:
        with duckdb.connect() as connection:
            connection.execute(f"CREATE VIEW ledger AS FROM read_parquet({ledger})")
            return as_finding(check.name, DuckDBEngine(connection).violations(check.select))
    except duckdb.Error as error:
        return Finding(check.name, 1, note=not_evaluated(error))
