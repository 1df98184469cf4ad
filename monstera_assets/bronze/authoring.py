"""Names for bronze table modules: `monstera_assets.authoring`, plus rules for source rows."""

from __future__ import annotations

from monstera_assets.authoring import *
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
