"""The tables and columns that pages read.

An engine other than DuckDB publishes this extract into a DuckDB file, from which the site is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from monstera_assets.gold import gold_accounts_needing_attention as attention
from monstera_assets.gold import gold_state_distribution_anomalies as anomalies
from monstera_assets.gold.metrics import MetricTable
from monstera_assets.warehouse.tables import Table

_WHOLE = (attention.TABLE, anomalies.TABLE)
"""Tables of which pages can read all columns."""
_COLUMNS: dict[Table, tuple[str, ...]] = {}
"""The columns that pages read from other tables."""


def extract(metric_tables: Sequence[MetricTable]) -> dict[str, Table]:
    """Return the tables in the extract by name, each with the columns in the extract."""
    parts = [
        replace(
            table,
            columns=tuple(column for column in table.columns if column.name in names),
            key=tuple(name for name in table.key if name in names),
            partition_column=None,
        )
        for table, names in _COLUMNS.items()
    ]
    return {table.name: table for table in (*metric_tables, *_WHOLE, *parts)}
