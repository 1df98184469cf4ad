"""Replace erased people in the rows that an import lands.

The raw files still contain an erased person, and so does what was read of them. The rows that land
contain the same tombstones and keyed hashes as the warehouse, so a load finds nothing to replace.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import duckdb

from monstera_assets.bronze.forgotten import (
    PEOPLE,
    Erasure,
    Forgetting,
    Key,
    key_of,
    personal_values,
    record,
    recorded,
)
from monstera_assets.imports.landing import EVENT_ORDER
from monstera_assets.settings import Settings
from monstera_assets.warehouse.connection import connect, connection_config


def known_erasures(
    settings: Settings,
    open_warehouse: Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]] | None = None,
) -> tuple[list[Erasure], Key] | None:
    """Return the erasures that the warehouse records and their key, or None if no one was erased.

    Args:
        settings: the configuration.
        open_warehouse: a function that opens the warehouse as this process already has it open, since
            DuckDB requires the same configuration. Default: open it for reading.

    Raises:
        ForgottenKeyError: If people were erased and the key is missing, unusable or wrong.
        WarehouseError: If the warehouse cannot be opened.
    """
    config = connection_config(settings.memory_limit, settings.threads, settings.temp_directory)
    reading = partial(
        connect,
        str(settings.database),
        config,
        lock_timeout_seconds=settings.lock_timeout_seconds,
        read_only=True,
        any_layout=True,
    )
    with (open_warehouse or reading)() as warehouse:
        found = recorded(warehouse)
    return (found, key_of(found, settings.database)) if found else None


def erase_landing(connection: duckdb.DuckDBPyConnection, erasures: list[Erasure], key: Key) -> None:
    """Replace erased people in the tables landed_events, subscription_rows, and users' and accounts'.

    Args:
        connection: a connection with the tables that are about to be written.
        erasures: the recorded erasures.
        key: the key of their hashes.
    """
    record(connection, erasures)
    forgetting = Forgetting(connection, key)
    forgetting.find_people(["SELECT user_id FROM user_versions"])
    forgetting.find_emails(["SELECT user_id, email FROM user_versions"])
    rows = f"({forgetting.users_sql('user_versions')})"
    # A user without an account has one of its own, under the user's id.
    _replace(
        connection,
        "user_versions",
        f"""SELECT rows.* REPLACE (coalesce(people.tombstone, rows.account_id) AS account_id)
            FROM {rows} AS rows LEFT JOIN {PEOPLE} AS people ON rows.account_id = people.real_id""",
    )
    _replace(
        connection,
        "account_versions",
        f"""SELECT rows.* REPLACE (coalesce(people.tombstone, rows.account_id) AS account_id,
                CASE WHEN rows.account_name = people.real_id THEN people.tombstone
                    ELSE rows.account_name END AS account_name)
            FROM account_versions AS rows
            LEFT JOIN {PEOPLE} AS people ON rows.account_id = people.real_id""",
    )
    for table, order in (("landed_events", f"ORDER BY {EVENT_ORDER}"), ("subscription_rows", "")):
        forgetting.find_people([f"SELECT entity_id FROM {table}"])
        # Addresses are not replaced here, because loads replace all addresses in metadata.
        forgetting.find_texts([f"SELECT metadata FROM {table}"], by_email=False)
        forgetting.find_values(personal_values([table]))
        # The id of a deletion that has no event of its own contains the user's id.
        _replace(
            connection,
            table,
            f"""SELECT rows.* REPLACE (CASE WHEN people.tombstone IS NULL THEN rows.event_id
                    ELSE replace(rows.event_id, people.real_id, people.tombstone) END AS event_id)
                FROM ({forgetting.events_sql(table)}) AS rows
                LEFT JOIN {PEOPLE} AS people ON rows.entity_id = people.tombstone {order}""",
        )
    forgetting.drop_temporary()


def _replace(connection: duckdb.DuckDBPyConnection, table: str, query: str) -> None:
    connection.execute(f"CREATE TABLE pseudonymized_rows AS {query}")
    connection.execute(f"DROP TABLE {table}")
    connection.execute(f"ALTER TABLE pseudonymized_rows RENAME TO {table}")
