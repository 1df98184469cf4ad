"""The warehouse's schemas; apart, so that they can be named without importing Ibis and Dagster."""

from __future__ import annotations

from enum import StrEnum

OPERATIONS_SCHEMA = "operations"
"""The schema of the warehouse's own bookkeeping; no declared table lies in it."""


class Layer(StrEnum):
    """The medallion layers; each is a DuckDB schema and a group in the Dagster UI."""

    BRONZE = "bronze"
    SILVER = "silver"
    GOLD = "gold"
