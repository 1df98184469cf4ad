"""The warehouse's schemas. This module imports neither Ibis nor Dagster."""

from __future__ import annotations

from enum import StrEnum

OPERATIONS_SCHEMA = "operations"
"""The bookkeeping schema, which contains no declared tables."""


class Layer(StrEnum):
    """The medallion layers. Each layer is a DuckDB schema and a group in the Dagster UI."""

    BRONZE = "bronze"
    SILVER = "silver"
    GOLD = "gold"
