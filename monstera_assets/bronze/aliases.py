"""Aliases of users (framework, section 2, "Aliases").

An alias is another id of a user. Loads replace aliases in events and facts, and set rows of users under
an alias aside. If the user has no row of its own, one alias's rows become the user's rows.
"""

from __future__ import annotations

from datetime import date

import duckdb
import ibis
import ibis.expr.types as ir

from monstera_assets.bronze.bronze_user_aliases import IN_CYCLE, TABLE
from monstera_assets.bronze.json_text import text_or_null_at, with_text_at
from monstera_assets.bronze.validation import (
    HELD_BACK,
    MERGED,
    REASON,
    REPEATED,
    SUPERSEDED,
    UNDER_ALIAS,
)
from monstera_assets.warehouse.batches import count_rows

TARGET = "target_user_id"
"""The key of metadata that contains the id of another user."""

MERGING = f"(FROM {TABLE.qualified_name} WHERE merged_user_id <> alias_id)"
"""The SQL relation with the aliases that are replaced."""

_IDS, _ADOPTED = "user_ids_with_rows", "user_aliases_adopted"


def merging_aliases(connection: duckdb.DuckDBPyConnection) -> ir.Table | None:
    """Return the aliases that are replaced, or None if there are none.

    Without aliases, queries over events do not look up any ids.
    """
    if not count_rows(connection, f"SELECT 1 FROM {MERGING} LIMIT 1"):
        return None
    aliases = TABLE.relation
    return aliases.filter(aliases.merged_user_id != aliases.alias_id)


def resolved_aliases(classified: str, stored: str) -> str:
    """Return the query for the rows of bronze_user_aliases.

    Chains are followed from their ends, so that no cycle is entered.

    Args:
        classified: the table with the classified rows of the load.
        stored: the table with the aliases from the previous load.
    """
    return f"""
        WITH RECURSIVE named AS (
            SELECT alias_id, user_id FROM {classified} WHERE {REASON} IS NULL
        ), merged AS (
            SELECT alias_id, user_id AS merged_user_id FROM named
            WHERE user_id NOT IN (SELECT alias_id FROM named)
            UNION ALL
            SELECT named.alias_id, merged.merged_user_id
            FROM named JOIN merged ON named.user_id = merged.alias_id
        )
        SELECT alias_id, named.user_id,
            coalesce(merged.merged_user_id, alias_id) AS merged_user_id,
            CASE WHEN merged.merged_user_id IS NOT NULL THEN stored.alias_created_at END
                AS alias_created_at,
            CASE WHEN merged.merged_user_id IS NULL THEN '{IN_CYCLE}' END AS faults
        FROM named LEFT JOIN merged USING (alias_id) LEFT JOIN {stored} AS stored USING (alias_id)
    """


def with_merged_ids(rows: ir.Table, aliases: ir.Table) -> ir.Table:
    """Replace aliases with user ids in `target_user_id` and the entity ids of typed event rows.

    Adds a column that is true if the row's entity was an alias.

    Args:
        rows: rows from `event_rules.read_events`.
        aliases: the result of `merging_aliases`.
    """
    rows = rows.mutate(
        named_user=ibis.ifelse(rows.entity_type == "user", rows.entity_id, None),
        named_target=text_or_null_at(rows.metadata, TARGET),
    )
    for named in ("named_user", "named_target"):
        found = aliases.select(
            **{f"{named}_alias": aliases.alias_id, f"{named}_merged": aliases.merged_user_id}
        )
        rows = rows.left_join(found, rows[named] == found[f"{named}_alias"])
        rows = rows.drop(named, f"{named}_alias")
    merged = with_text_at(rows.metadata, TARGET, rows.named_target_merged)
    return rows.mutate(
        entity_id=ibis.coalesce(rows.named_user_merged, rows.entity_id),
        metadata=ibis.ifelse(rows.named_target_merged.notnull(), merged, rows.metadata),
        **{UNDER_ALIAS: rows.named_user_merged.notnull()},
    ).drop("named_user_merged", "named_target_merged")


def with_created_at(users: ir.Table) -> ir.Table:
    """Set `user_created_at` of users to the earliest creation of the user and its aliases."""
    aliases = TABLE.relation
    merging = aliases.filter(aliases.merged_user_id != aliases.alias_id)
    earliest = merging.group_by(merged_id=merging.merged_user_id).aggregate(
        earliest=merging.alias_created_at.min()
    )
    users = users.left_join(earliest, users.user_id == earliest.merged_id)
    created = ibis.least(users.stated_created_at, users.earliest)  # least() ignores nulls
    return users.mutate(user_created_at=created).drop("merged_id", "earliest")


def settle_users(
    connection: duckdb.DuckDBPyConnection,
    evaluated: str,
    stored: str,
    *,
    has_accounts: bool,
    restate_from: date | None = None,
) -> None:
    """Give users the rows of their aliases, or set these rows aside.

    Rows under an alias become rows of the user if the user has no row of its own. Of several aliases,
    the one with the earliest creation has precedence, then the smallest id. All other valid rows under
    an alias are rejected as `merged`, and all other stored versions under an alias are dropped. Stored
    versions under an id that is no longer an alias become versions of that id again. Also set
    `alias_created_at` in bronze_user_aliases.

    Args:
        connection: the connection. Both tables are replaced.
        evaluated: the temporary table with the evaluated rows of users.
        stored: the temporary table with the versions from previous loads.
        has_accounts: whether the source contains accounts. If not, an account can have a user's id.
        restate_from: the earliest day that the run recomputes, or None if it is not limited. The first
            own row of a user who signed up earlier is held back.
    """
    if restate_from is not None:
        connection.execute(
            f"UPDATE {evaluated} SET {REASON} = '{HELD_BACK}' WHERE {REASON} IS NULL AND user_id IN"
            f" (SELECT stored.user_id FROM {stored} AS stored JOIN {MERGING} AS merging"
            " ON merging.alias_id = stored.alias_id AND merging.merged_user_id = stored.user_id"
            f" WHERE signup_date < DATE '{restate_from}')"
        )
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE {_IDS} AS
        SELECT id, merged_user_id, min(created_at) AS created_at FROM (
            SELECT user_id AS id, stated_created_at AS created_at FROM {evaluated}
            WHERE {REASON} IS NULL
            UNION ALL
            SELECT coalesce(alias_id, user_id), stated_created_at FROM {stored}
        ) LEFT JOIN {MERGING} AS merging ON merging.alias_id = id GROUP BY ALL
        """
    )
    connection.execute(
        f"UPDATE {TABLE.qualified_name} AS aliases SET alias_created_at ="
        f" least(aliases.alias_created_at, ids.created_at) FROM {_IDS} AS ids"
        " WHERE ids.id = aliases.alias_id AND ids.merged_user_id IS NOT NULL"
    )
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE {_ADOPTED} AS
        SELECT merged_user_id AS adopting_id, alias_id AS adopted_id FROM {MERGING} AS merging
        WHERE alias_id IN (SELECT id FROM {_IDS})
            AND merged_user_id NOT IN (SELECT id FROM {_IDS})
        QUALIFY row_number() OVER (
            PARTITION BY merged_user_id ORDER BY alias_created_at, alias_id
        ) = 1
        """
    )
    new_id = "coalesce(adopting_id, {})"
    account = "account_id" if has_accounts else f"if(account_id = {{}}, {new_id}, account_id)"
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE {evaluated} AS
        SELECT evaluated.* REPLACE (
            {new_id.format("evaluated.user_id")} AS user_id,
            adopted_id AS alias_id,
            {account.format("evaluated.user_id", "evaluated.user_id")} AS account_id,
            CASE WHEN merging.alias_id IS NULL OR adopted_id IS NOT NULL THEN {REASON}
                WHEN coalesce({REASON}, '{REPEATED}') IN ('{REPEATED}', '{SUPERSEDED}')
                    THEN '{MERGED}'
                ELSE {REASON} END AS {REASON}
        )
        FROM {evaluated} AS evaluated
        LEFT JOIN {MERGING} AS merging ON merging.alias_id = evaluated.user_id
        LEFT JOIN {_ADOPTED} ON adopted_id = evaluated.user_id
        """
    )
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE {stored} AS
        SELECT stored.* EXCLUDE (original_id) REPLACE (
            {new_id.format("original_id")} AS user_id,
            adopted_id AS alias_id,
            {account.format("stored.user_id", "original_id")} AS account_id
        )
        FROM (SELECT *, coalesce(alias_id, user_id) AS original_id FROM {stored}) AS stored
        LEFT JOIN {MERGING} AS merging ON merging.alias_id = original_id
        LEFT JOIN {_ADOPTED} ON adopted_id = original_id
        WHERE merging.alias_id IS NULL OR adopted_id IS NOT NULL
        """
    )
