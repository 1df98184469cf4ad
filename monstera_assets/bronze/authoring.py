"""API for bronze table modules: `monstera_assets.authoring`, plus rules for source rows."""

from __future__ import annotations

from monstera_assets.authoring import *
from monstera_assets.bronze.reading import Reading
from monstera_assets.bronze.validation import (
    DETAIL,
    FAULTS,
    FAULTS_COLUMN,
    MERGED,
    REASON,
    REPEATED,
    SUPERSEDED,
    UNDER_ALIAS,
    Rejection,
    fault_names,
    first_reason,
    keep_last,
    missing,
    raw_row,
    typed,
    unknown_reference,
    unknown_values,
    unreadable,
    with_reason,
    with_values,
)
from monstera_assets.bronze.versions import (
    STATED_BY,
    UPDATED_AT,
    VALID_FROM,
    Versioning,
    current_versions,
    faults_of_day,
    first_day_of_undated,
    settle_versions,
    with_stated_day,
)
from monstera_assets.warehouse.common_columns import REJECTED_ROW
