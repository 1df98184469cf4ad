"""Define the warehouse's schemas without importing Ibis or Dagster."""

from __future__ import annotations

from enum import StrEnum

OPERATIONS_SCHEMA = "operations"
"""The bookkeeping schema, which does not contain declared tables."""


class Layer(StrEnum):
    """The medallion layers. Each layer is a DuckDB schema and a group in the Dagster UI."""

    BRONZE = "bronze"
    SILVER = "silver"
    GOLD = "gold"
