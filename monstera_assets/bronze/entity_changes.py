"""Determine which computed days are affected by changes to the inputs that are loaded in full.

A new version of a user or account affects only the days on which it applies. A change to the first
version affects all days since the entity's creation. An added row cannot affect days before its date:
users have no state before signup, accounts have none before creation or first payment, and billing
facts count only from their date. An added user has one more effect: events that were rejected because
the user was unknown become valid.

A changed alias affects the days with events that name the alias or the user into which it was merged.

The catalog and workflows determine the meaning of all events, so changes to them can affect any day. An
added catalog node, however, only affects days with events that belong to the node, and no daily table
contains a node's name or owner.
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
    bronze_user_aliases,
    bronze_users,
    bronze_workflows,
)
from monstera_assets.bronze.aliases import TARGET
from monstera_assets.bronze.bronze_subscription_events import USER_EVENT_TYPES
from monstera_assets.bronze.versions import Versioning
from monstera_assets.warehouse.tables import Table

COMPARED = (
    bronze_user_aliases.TABLE,
    bronze_accounts.TABLE,
    bronze_product_catalog.TABLE,
    bronze_users.TABLE,
    bronze_subscription_events.TABLE,
    bronze_workflows.TABLE,
)
"""The entity tables from which other tables are computed."""

NODE_LABELS = ("product_name", "product_owner", "faults")
"""Columns of the catalog from which no daily table is computed."""
LISTED_TYPES = "activation_event_types || '|' || qualifying_event_types"
"""SQL expression for all event types in a catalog node's lists, separated by |."""

Named = Callable[[Table], str]
"""Function that returns a table's SQL name in one of two versions."""


@dataclass(frozen=True)
class EntityEffect:
    """Days affected by entity changes.

    Attributes:
        every_day: whether any day may be affected. If true, the other attributes are not set.
        affects_from: the first day that may be affected, or None if no day is affected.
        event_days: days with event rows for users to whom the rules now apply differently, or rows that
            name changed aliases.
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

    def merging(of: Named) -> str:
        return (
            f"(SELECT alias_id, merged_user_id FROM {of(bronze_user_aliases.TABLE)}"
            " WHERE merged_user_id <> alias_id)"
        )

    accounts, users = bronze_accounts.TABLE, bronze_users.TABLE
    billing = bronze_subscription_events.TABLE
    catalog, workflows = bronze_product_catalog.TABLE, bronze_workflows.TABLE

    def constant(column: str, table: Table) -> str:
        """Return the query for the values of a column that is equal in all versions, if changed."""
        key = table.key[0]
        both = [f"(SELECT DISTINCT {key}, {column} FROM {of(table)})" for of in (before, after)]
        return " UNION ALL ".join(
            f"SELECT {column} AS day FROM ({one} EXCEPT {other})"
            for one, other in (both, both[::-1])
        )

    def versions(table: Table, versioning: Versioning, created: str) -> str:
        """Return the query for the first days of versions that are only in one of the tables."""
        key = table.key[0]
        columns = ", ".join((key, "valid_from", created, *versioning.varying))
        both = [
            # The first version also applies to all earlier days.
            f"(SELECT {columns}, valid_from = min(valid_from) OVER (PARTITION BY {key}) AS is_first"
            f" FROM {of(table)})"
            for of in (before, after)
        ]
        # The day on which a first version starts has no effect.
        kept = "* REPLACE (CASE WHEN NOT is_first THEN valid_from END AS valid_from)"
        one, other = (f"(SELECT {kept} FROM {each})" for each in both)
        return " UNION ALL ".join(
            f"SELECT coalesce(valid_from, {created}) AS day FROM ({this} EXCEPT {that})"
            for this, that in ((one, other), (other, one))
        )

    others = ", ".join(c.name for c in catalog.columns if c.name not in NODE_LABELS)
    affects_every_day = (
        f"SELECT {others} FROM {before(catalog)} EXCEPT SELECT {others} FROM {after(catalog)}",
        # The first list determines which events without a list qualify.
        f"SELECT 1 WHERE NOT {_has_lists(before(catalog))} AND {_has_lists(after(catalog))}",
        removed(workflows),
        added(workflows),
    )
    if any(map(count, affects_every_day)):
        return EntityEffect(every_day=True)
    days = connection.execute(
        " UNION ALL ".join(
            (
                versions(users, bronze_users.VERSIONS, "signup_date"),
                versions(accounts, bronze_accounts.VERSIONS, "created_date"),
                constant("signup_date", users),
                constant("created_date", accounts),
                constant("first_paid_date", accounts),
                f"SELECT event_date FROM {added(billing)}",
                f"SELECT event_date FROM {removed(billing)}",
                # Tables have rows of a product, and count its features, from their launch on.
                f"SELECT created_date FROM {after(catalog)} ANTI JOIN {before(catalog)}"
                " USING (product_id) WHERE tier IN ('product', 'feature')",
            )
        )
    ).fetchall()
    dates = [day for (day,) in days if day is not None]
    deletes = f"WHERE list_contains({list(USER_EVENT_TYPES)}, event_type)"
    # Stored events contain the id into which an alias was merged.
    changed_aliases = f"""
        SELECT alias_id AS id FROM (FROM {merging(after)} EXCEPT FROM {merging(before)})
        UNION SELECT unnest([alias_id, merged_user_id])
        FROM (FROM {merging(before)} EXCEPT FROM {merging(after)})
    """
    events, rejected = loaded(bronze_events.TABLE), loaded(bronze_rejected_events.TABLE)
    # Reading metadata is slow.
    targets = f"""
        UNION SELECT event_date FROM (
            SELECT event_date, json_extract_string(metadata, '$.{TARGET}') AS id FROM {events}
            WHERE contains(metadata, '{TARGET}') OR contains(metadata, '\\u')
        ) WHERE id IN (SELECT id FROM aliases)
    """
    of_users = connection.execute(
        f"""
        WITH aliases AS ({changed_aliases}), people AS (
            SELECT user_id, DATE '0001-01-01' AS since,
                if(was.signup_date IS NULL, DATE '9999-12-31',
                    greatest(now.signup_date, was.signup_date)) AS until
            FROM (SELECT DISTINCT user_id, signup_date FROM {after(users)}) AS now
            LEFT JOIN (SELECT DISTINCT user_id, signup_date FROM {before(users)}) AS was
                USING (user_id)
            WHERE now.signup_date IS DISTINCT FROM was.signup_date
            UNION ALL
            SELECT entity_id, event_date, DATE '9999-12-31'
            FROM (FROM {added(billing)} UNION ALL FROM {removed(billing)}) {deletes}
            UNION ALL
            SELECT id, DATE '0001-01-01', DATE '9999-12-31' FROM aliases
        ), rejected AS (
            SELECT partition_date AS day,
                CASE WHEN json_valid(raw_row) THEN raw_row ->> '$.entity_id' END AS entity_id
            FROM {rejected}
        ), rows AS (
            SELECT event_date AS day, entity_id FROM {events} WHERE entity_type = 'user'
            UNION ALL FROM rejected
            UNION ALL SELECT day, merged_user_id
            FROM rejected JOIN {merging(after)} AS merging ON alias_id = entity_id
        )
        SELECT DISTINCT day FROM (
            SELECT day FROM rows JOIN people ON user_id = entity_id AND day BETWEEN since AND until
            {targets if count(changed_aliases) else ""}
        )
        """
    ).fetchall()
    of_nodes = connection.execute(
        f"""
        WITH nodes AS MATERIALIZED (
            FROM {after(catalog)} ANTI JOIN {before(catalog)} USING (product_id)
        ), listed AS MATERIALIZED (
            SELECT DISTINCT trim(unnest(string_split({LISTED_TYPES}, '|'))) AS event_type FROM nodes
        ), rows AS (
            SELECT event_date AS day, product_id, event_type FROM {loaded(bronze_events.TABLE)}
            WHERE (SELECT count(*) > 0 FROM nodes)
            UNION ALL
            SELECT partition_date, raw_row ->> '$.product_id', NULL
            FROM {loaded(bronze_rejected_events.TABLE)}
            WHERE json_valid(raw_row) AND (SELECT count(*) > 0 FROM nodes)
        )
        SELECT DISTINCT day FROM rows
        WHERE product_id IN (SELECT product_id FROM nodes)
            OR product_id IS NULL AND event_type IN (FROM listed)
        """
    ).fetchall()
    event_days = tuple(sorted({day for (day,) in [*of_users, *of_nodes]}))
    first = min([*dates, *event_days], default=None)
    return EntityEffect(affects_from=first, event_days=event_days)


def _has_lists(catalog: str) -> str:
    """Return the SQL condition that a node in the catalog has a list of event types."""
    return f"(SELECT count(*) > 0 FROM {catalog} WHERE {LISTED_TYPES} <> '|')"
