"""The schemas of the warehouse, importable without Ibis and Dagster."""

from __future__ import annotations

from enum import StrEnum

OPERATIONS_SCHEMA = "operations"
"""The schema for bookkeeping; it contains no declared table."""


class Layer(StrEnum):
    """The medallion layers; each is a DuckDB schema and a group in the Dagster UI."""

    BRONZE = "bronze"
    SILVER = "silver"
    GOLD = "gold"
