"""What the module of a bronze table needs: `monstera_assets.authoring`, and rules for source rows."""

from __future__ import annotations

from monstera_assets.authoring import *
from monstera_assets.authoring import Column, Layer, Table
from monstera_assets.bronze import OWNERS
from monstera_assets.bronze.validation import (
    REASON,
    Rejection,
    column_rules,
    first_reason,
    missing,
    rank_duplicates,
    raw_row,
    read_as,
    required_columns,
    typed,
    unknown_reference,
    unknown_values,
    unreadable,
    with_reason,
)
from monstera_assets.warehouse.common_columns import REJECTED_ROW


def bronze_table(
    name: str,
    *,
    grain: str,
    description: str,
    key: tuple[str, ...],
    columns: tuple[Column, ...],
    partition_column: str | None = None,
) -> Table:
    """Declare a table of bronze, as `monstera_assets.authoring` does for silver and gold."""
    return Table(Layer.BRONZE, name, grain, description, columns, key, OWNERS, partition_column)
