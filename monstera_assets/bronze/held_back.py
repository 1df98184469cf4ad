"""Hold back changes that affect days before the earliest day that a run recomputes.

The daily run recomputes a limited number of days. If a change also affects earlier days, the run must
not process part of the change, because the later days would contradict the earlier days. The whole row
is therefore held back: the tables keep the stored row, and the row in the source is rejected as
`held_back` until a run without the limit loads it. New users, accounts and catalog nodes are never held
back.

See "Held back changes" in docs/how-to/late_data.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import duckdb

from monstera_assets.bronze import (
    bronze_accounts,
    bronze_events,
    bronze_rejected_events,
    bronze_subscription_events,
    bronze_users,
)
from monstera_assets.bronze.aliases import TARGET
from monstera_assets.bronze.entity_changes import LISTED_TYPES, NODE_LABELS, Named
from monstera_assets.bronze.validation import HELD_BACK, REASON
from monstera_assets.bronze.versions import Versioning
from monstera_assets.warehouse.duckdb_engine import quote
from monstera_assets.warehouse.tables import Table

RESTATE_FROM = "monstera/restate_from"
"""Run tag for the earliest day that a run recomputes. Without the tag, the number is not limited."""


@dataclass(frozen=True)
class Held:
    """One input's rows in a load.

    Attributes:
        connection: the load's connection.
        table: the table that the load fills.
        classified: temporary table with the load's rows, where the reason of accepted rows is null.
        before: returns the name of a table with the rows from before the load.
        loaded: returns the names of bronze_events and bronze_rejected_events.
        first: the earliest day that the run recomputes.
    """

    connection: duckdb.DuckDBPyConnection
    table: Table
    classified: str
    before: Named
    loaded: Named
    first: date

    @property
    def kept(self) -> str:
        """Temporary table with the rows from before the load that stay, because a row is held back."""
        return f"{self.table.name}_kept"

    @property
    def _stored(self) -> str:
        return self.before(self.table)

    @property
    def _columns(self) -> str:
        return ", ".join(quote(column.name) for column in self.table.columns)

    @property
    def _accepted(self) -> str:
        return f"(SELECT {self._columns} FROM {quote(self.classified)} WHERE {REASON} IS NULL)"

    def nothing(self) -> None:
        """Hold nothing back."""
        self._keep("SELECT NULL AS id WHERE false")

    def versions(self, versions: Versioning) -> None:
        """Hold back versions of known users or accounts that change earlier days.

        A version changes the days from its first day on. The entity's first version changes all days
        since the entity's creation.
        """
        key = quote(self.table.key[0])
        created = next(iter(versions.dates))
        since_creation = (*versions.varying, *versions.first)
        changes_earlier_days = [
            f"loaded.{day} IS DISTINCT FROM known.{day} AND loaded.{day} IS NOT NULL"
            f" AND is_last AND least(loaded.{day}, known.{day}) < DATE '{self.first}'"
            for day, moment in versions.dates.items()
            if moment in versions.latest
        ]
        self.connection.execute(
            f"""
            UPDATE {quote(self.classified)} SET {REASON} = '{HELD_BACK}' WHERE rowid IN (
                WITH loaded AS (
                    SELECT rowid AS place, *,
                        valid_from = max(valid_from) OVER (PARTITION BY {key}) AS is_last
                    FROM {quote(self.classified)} WHERE {REASON} IS NULL
                ), known AS (
                    FROM {self._stored}
                    QUALIFY valid_from = min(valid_from) OVER (PARTITION BY {key})
                )
                SELECT place FROM loaded
                JOIN known ON known.{key} = loaded.{key}
                ASOF LEFT JOIN {self._stored} AS prior
                    ON prior.{key} = loaded.{key} AND loaded.valid_from >= prior.valid_from
                WHERE CASE WHEN loaded.valid_from <= known.valid_from THEN
                    least(loaded.{created}, known.{created}) < DATE '{self.first}'
                    AND {_content(since_creation, "loaded")}
                        IS DISTINCT FROM {_content(since_creation, "known")}
                ELSE
                    loaded.valid_from < DATE '{self.first}'
                    AND {_content(versions.varying, "loaded")}
                        IS DISTINCT FROM {_content(versions.varying, "prior")}
                END OR {" OR ".join(f"({each})" for each in [*changes_earlier_days, "false"])}
            )
            """
        )
        self.nothing()

    def derived(self, versions: Versioning) -> None:
        """Hold back changed creation dates of users or accounts that are derived from events."""
        key = quote(self.table.key[0])
        created = next(iter(versions.dates))
        self._hold(
            f"SELECT stored.{key} AS id FROM {self._stored} AS stored"
            f" LEFT JOIN {self._accepted} AS loaded ON loaded.{key} = stored.{key}"
            f" WHERE {_content(versions.first, 'loaded')}"
            f" IS DISTINCT FROM {_content(versions.first, 'stored')}"
            f" AND least(loaded.{created}, stored.{created}) < DATE '{self.first}'"
        )

    def facts(self) -> None:
        """Hold back added, changed and removed facts of earlier days about known users and accounts."""
        key = quote(self.table.key[0])
        known = " UNION ALL ".join(
            f"SELECT {table.key[0]} FROM {self.before(table)}"
            for table in (bronze_users.TABLE, bronze_accounts.TABLE)
        )
        self._hold(
            f"SELECT DISTINCT {key} AS id FROM ({self._changed()})"
            f" WHERE event_date < DATE '{self.first}' AND entity_id IN ({known})"
        )

    def catalog(self) -> None:
        """Hold back changes of the catalog, except for added nodes, names and owners.

        An added node affects only days with events that belong to it, so it is not held back, unless
        it depends on a node that is held back.
        """
        columns = ", ".join(c.name for c in self.table.columns if c.name not in NODE_LABELS)
        changed = (
            f"SELECT {columns} FROM {self._stored} EXCEPT SELECT {columns} FROM {self._accepted}"
        )
        no_lists = f"(SELECT count(*) = 0 FROM {self._stored} WHERE {LISTED_TYPES} <> '|')"
        self._hold(
            f"""
            WITH RECURSIVE changed AS (SELECT product_id AS id FROM ({changed})),
            added AS (
                SELECT * FROM {self._accepted}
                WHERE product_id NOT IN (SELECT product_id FROM {self._stored})
            ), held AS (
                SELECT id FROM changed
                -- The first list changes which events without a list qualify.
                UNION SELECT product_id FROM added WHERE {LISTED_TYPES} <> '|' AND {no_lists}
                UNION SELECT added.product_id FROM added JOIN held ON id = parent_product_id
            )
            SELECT id FROM held
            """
        )

    def aliases(self, users_created: str) -> str:
        """Hold back changed aliases of earlier days, and return the name of a table with all aliases.

        An alias affects the days with events or facts that name it, and all days since the signup of a
        user under it. If an alias is withdrawn, this also applies to the user into which it was merged.

        Args:
            users_created: query for `user_id` and `created_on` in the rows of users in the source.
        """
        pairs = "SELECT alias_id, user_id FROM"
        held = f"{self.table.name}_changed"
        self.connection.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE {quote(held)} AS
            WITH changed AS (
                SELECT DISTINCT alias_id FROM (
                    ({pairs} {self._accepted} EXCEPT {pairs} {self._stored})
                    UNION ALL ({pairs} {self._stored} EXCEPT {pairs} {self._accepted})
                )
            )
            SELECT alias_id, alias_id AS id FROM changed
            UNION SELECT alias_id, merged_user_id FROM {self._stored} SEMI JOIN changed USING (alias_id)
            """
        )
        [(changed,)] = self.connection.execute(f"SELECT count(*) FROM {quote(held)}").fetchall()
        if changed:
            events, rejected = map(self.loaded, (bronze_events.TABLE, bronze_rejected_events.TABLE))
            users, facts = map(self.before, (bronze_users.TABLE, bronze_subscription_events.TABLE))
            named = "event_date AS day FROM"
            self._hold(
                f"""
                WITH named AS (
                    SELECT entity_id AS id, {named} {events} WHERE entity_type = 'user'
                    UNION ALL SELECT entity_id, {named} {facts} WHERE entity_type = 'user'
                    UNION ALL SELECT json_extract_string(metadata, '$.{TARGET}'), {named} {events}
                        WHERE contains(metadata, '{TARGET}') OR contains(metadata, '\\u')
                    UNION ALL SELECT raw_row ->> '$.entity_id', partition_date FROM {rejected}
                        WHERE json_valid(raw_row)
                    UNION ALL SELECT unnest([user_id, alias_id]), signup_date FROM {users}
                    UNION ALL SELECT user_id, created_on FROM ({users_created})
                )
                SELECT alias_id AS id FROM {quote(held)} AS changed JOIN named ON named.id = changed.id
                GROUP BY alias_id HAVING min(day) < DATE '{self.first}'
                """
            )
        else:
            self.nothing()
        every = f"{self.table.name}_to_resolve"
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {quote(every)} AS SELECT *, NULL AS {REASON}"
            f" FROM ({pairs} {self._accepted} UNION ALL {pairs} {quote(self.kept)})"
        )
        return quote(every)

    def whole_table(self) -> None:
        """Hold back any change, because each row affects all days."""
        key = ", ".join(map(quote, self.table.key))
        changed = f"SELECT count(*) FROM ({self._changed()})"
        [(number,)] = self.connection.execute(changed).fetchall()
        if not number:
            self.nothing()
            return
        self.connection.execute(
            f"UPDATE {quote(self.classified)} SET {REASON} = '{HELD_BACK}' WHERE {REASON} IS NULL;"
            f"CREATE OR REPLACE TEMP TABLE {quote(self.kept)} AS FROM {self._stored} ORDER BY {key}"
        )

    def _changed(self) -> str:
        stored = f"(SELECT {self._columns} FROM {self._stored})"
        return (
            f"(FROM {stored} EXCEPT FROM {self._accepted})"
            f" UNION ALL (FROM {self._accepted} EXCEPT FROM {stored})"
        )

    def _hold(self, ids: str) -> None:
        """Hold back the rows with the queried ids, and keep the stored rows with these ids."""
        key = quote(self.table.key[0])
        held = quote(f"{self.table.name}_held")
        self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {held} AS {ids}")
        self._keep(f"SELECT id FROM {held}")
        classified = quote(self.classified)
        self.connection.execute(
            # A row derived from events is not in the source.
            f"DELETE FROM {classified} WHERE {REASON} IS NULL AND source_file IS NULL"
            f" AND {key} IN (SELECT id FROM {held});"
            f"UPDATE {classified} SET {REASON} = '{HELD_BACK}'"
            f" WHERE {REASON} IS NULL AND {key} IN (SELECT id FROM {held})"
        )

    def _keep(self, ids: str) -> None:
        key = quote(self.table.key[0])
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {quote(self.kept)} AS"
            f" SELECT {self._columns} FROM {self._stored} WHERE {key} IN ({ids})"
        )


def _content(columns: Sequence[str], of: str) -> str:
    values = ", ".join(f"{quote(name)} := {of}.{quote(name)}" for name in columns)
    return f"struct_pack({values})"
