"""Determine which computed days are affected by changes to the inputs that are loaded in full.

The latest user and account rows also apply to past days, so a changed or removed row can affect any
day. An added row cannot affect days before the row's date. Users have no state before signup, accounts
have no state before creation or first payment, and billing facts do not apply before their date. An
added user can affect earlier days in two cases: events that were rejected because the user was unknown
become valid, and a new segment value adds rows on every date.

The product catalog and workflows determine how all events are interpreted, so a change to either
input can affect any day.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import duckdb

from monstera_assets.bronze import (
    bronze_accounts,
    bronze_events,
    bronze_product_catalog,
    bronze_rejected_events,
    bronze_subscription_events,
    bronze_users,
    bronze_workflows,
)
from monstera_assets.bronze.bronze_subscription_events import USER_EVENT_TYPES
from monstera_assets.warehouse.tables import Table

COMPARED = (
    bronze_accounts.TABLE,
    bronze_product_catalog.TABLE,
    bronze_users.TABLE,
    bronze_subscription_events.TABLE,
    bronze_workflows.TABLE,
)
"""The entity tables from which other tables are computed."""

Named = Callable[[Table], str]
"""Function that returns a table's SQL name in one of two versions."""

_SEGMENTS = ("country", "plan_type", "acquisition_source", "subscription_tier")


@dataclass(frozen=True)
class EntityEffect:
    """Days affected by entity changes.

    Attributes:
        every_day: whether any day may be affected. If true, the other attributes are not set.
        affects_from: the first day that may be affected, or None if no day is affected.
        event_days: days with event rows for users to whom the rules now apply differently.
    """

    every_day: bool = False
    affects_from: date | None = None
    event_days: tuple[date, ...] = ()


def entity_effect(
    connection: duckdb.DuckDBPyConnection, before: Named, after: Named, loaded: Named
) -> EntityEffect:
    """Compare two versions of the entity tables, whose names `before` and `after` return.

    `loaded` returns the names of bronze_events and bronze_rejected_events.
    """

    def count(query: str) -> int:
        return int(connection.execute(f"SELECT count(*) FROM ({query})").fetchall()[0][0])

    def removed(table: Table) -> str:
        return f"(FROM {before(table)} EXCEPT ALL FROM {after(table)})"

    def added(table: Table) -> str:
        return f"(FROM {after(table)} EXCEPT ALL FROM {before(table)})"

    accounts, users = bronze_accounts.TABLE, bronze_users.TABLE
    billing = bronze_subscription_events.TABLE
    catalog, workflows = bronze_product_catalog.TABLE, bronze_workflows.TABLE
    affects_every_day = (
        *(change(table) for table in (catalog, workflows) for change in (removed, added)),
        removed(accounts),
        removed(users),
        f"{_segments(after)} EXCEPT {_segments(before)}",
    )
    if any(map(count, affects_every_day)):
        return EntityEffect(every_day=True)
    days = connection.execute(
        f"SELECT signup_date FROM {added(users)}"
        f" UNION ALL SELECT created_date FROM {added(accounts)}"
        f" UNION ALL SELECT first_paid_date FROM {added(accounts)}"
        f" UNION ALL SELECT event_date FROM {added(billing)}"
        f" UNION ALL SELECT event_date FROM {removed(billing)}"
    ).fetchall()
    dates = [day for (day,) in days if day is not None]
    deletes = f"WHERE list_contains({list(USER_EVENT_TYPES)}, event_type)"
    of_users = connection.execute(
        f"""
        WITH people AS (
            SELECT user_id FROM {added(users)}
            UNION SELECT entity_id FROM {added(billing)} {deletes}
            UNION SELECT entity_id FROM {removed(billing)} {deletes}
        ), rows AS (
            SELECT event_date AS day, entity_id FROM {loaded(bronze_events.TABLE)}
            UNION ALL
            SELECT partition_date, CASE WHEN json_valid(raw_row) THEN raw_row ->> '$.entity_id' END
            FROM {loaded(bronze_rejected_events.TABLE)}
        )
        SELECT DISTINCT day FROM rows SEMI JOIN people ON user_id = entity_id ORDER BY day
        """
    ).fetchall()
    event_days = tuple(day for (day,) in of_users)
    first = min([*dates, *event_days], default=None)
    return EntityEffect(affects_from=first, event_days=event_days)


def _segments(version: Named) -> str:
    people = (
        f"{version(bronze_users.TABLE)} JOIN {version(bronze_accounts.TABLE)} USING (account_id)"
    )
    values = " UNION ALL ".join(
        f"SELECT '{name}' AS dimension, {name} AS value FROM {people}" for name in _SEGMENTS
    )
    return f"(SELECT * FROM ({values}))"
