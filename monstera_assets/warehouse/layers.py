"""Define the warehouse's schemas and groups of assets without importing Ibis or Dagster."""

from __future__ import annotations

from enum import StrEnum

OPERATIONS_SCHEMA = "operations"
"""The bookkeeping schema, which does not contain declared tables."""


class Layer(StrEnum):
    """The medallion layers. Each layer is a DuckDB schema and a prefix of asset keys."""

    BRONZE = "bronze"
    SILVER = "silver"
    GOLD = "gold"


class AssetGroup(StrEnum):
    """The groups of assets in the Dagster UI, by subject.

    The UI fits the graph of a group to the width of the window only, so the more columns it has, the
    more rows fit. `test_ui.py` checks that each group fits.
    """

    INTAKE = "intake"
    LOADS = "loads"
    CATALOG = "catalog"
    LIFECYCLE = "lifecycle"
    RETENTION = "retention"
    PRODUCTS = "products"
    ACCOUNTS = "accounts"
    SEGMENTS = "segments"
    METRICS = "metrics"
    REVENUE = "revenue"
    PREDICTION = "prediction"
    DASHBOARDS = "dashboards"
