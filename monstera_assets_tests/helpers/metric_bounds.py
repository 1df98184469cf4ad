"""Compare stored metrics with their declared bounds."""

from __future__ import annotations

import duckdb

from monstera_assets.gold.metrics import MetricTable


def out_of_bounds(connection: duckdb.DuckDBPyConnection, table: MetricTable) -> dict[str, int]:
    """Return the number of values outside a metric's bounds, for each column that has any."""
    counts = []
    for metric in table.metrics:
        lower, upper = metric.bounds
        limits = [f"{metric.column_name} < {lower}"] if lower is not None else []
        limits += [f"{metric.column_name} > {upper}"] if upper is not None else []
        counts.append(f"count(*) FILTER ({' OR '.join(limits)}) AS {metric.column_name}")
    rows = connection.execute(f"SELECT {', '.join(counts)} FROM {table.qualified_name}")
    names = [name for name, *_ in rows.description or ()]
    [found] = rows.fetchall()
    return {name: count for name, count in zip(names, found, strict=True) if count}
