"""Record the settings used to compute the stored days so that a history never mixes settings."""

from __future__ import annotations

from collections.abc import Mapping

import duckdb

from monstera_assets.warehouse.archive import archive
from monstera_assets.warehouse.errors import WarehouseError
from monstera_assets.warehouse.layers import OPERATIONS_SCHEMA, Layer

REBUILD = "monstera run --rebuild"
"""The command that recomputes all days."""

_SETTINGS = f"{OPERATIONS_SCHEMA}.settings"
_MATERIALIZATIONS = f"{OPERATIONS_SCHEMA}.materializations"
_ENTITIES = (
    *("accounts", "product_catalog", "users", "subscription_events", "workflows"),
    "user_aliases",
)


class ChangedSettingsError(WarehouseError):
    """The stored days were computed with different settings."""


def require_same_settings(
    connection: duckdb.DuckDBPyConnection, database: str, settings: Mapping[str, str]
) -> None:
    """Compare settings with the settings used for the stored days, and record any new settings.

    Raises:
        ChangedSettingsError: If a value differs. The message lists each changed setting with both
            values and includes the command that recomputes all days.
    """
    [(stored_days,)] = connection.execute(
        f"SELECT count(partition_date) FROM {_MATERIALIZATIONS}"
    ).fetchall()
    if not stored_days:
        connection.execute(f"DELETE FROM {_SETTINGS}")
    recorded = dict(connection.execute(f"SELECT name, value FROM {_SETTINGS}").fetchall())
    changed = [
        f"{name} was {recorded[name]} and is now {value}"
        for name, value in settings.items()
        if recorded.get(name, value) != value
    ]
    if changed:
        raise ChangedSettingsError(
            f"{database} was computed with different settings: {'; '.join(changed)}. Restore the"
            f" earlier values, or recompute all days with: {REBUILD}"
        )
    missing = [[name, value] for name, value in settings.items() if name not in recorded]
    if missing:
        connection.executemany(f"INSERT INTO {_SETTINGS} VALUES (?, ?)", missing)


def delete_all_days(connection: duckdb.DuckDBPyConnection) -> None:
    """Delete all computed tables in the caller's transaction. Entity tables are kept.

    Raises:
        ChangedSettingsError: If raw events were deleted after the retention period, since their days
            cannot be recomputed.
    """
    archived = archive(connection)
    if archived is not None:
        raise ChangedSettingsError(
            f"Raw events before {archived.removed_before} were deleted after the retention period, so"
            " their days cannot be recomputed. Restore the earlier settings, or specify a new file"
            " with --database."
        )
    kept = [f"bronze_{name}" for name in _ENTITIES]
    computed = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name ="
        " current_database() AND list_contains(?, schema_name) AND NOT list_contains(?, table_name)",
        [list(map(str, Layer)), kept],
    ).fetchall()
    for schema, name in computed:
        connection.execute(f'DROP TABLE {schema}."{name}"')
    connection.execute(
        f"DELETE FROM {_MATERIALIZATIONS}; DELETE FROM {OPERATIONS_SCHEMA}.source_changes;"
        f" DELETE FROM {_SETTINGS}"
    )
