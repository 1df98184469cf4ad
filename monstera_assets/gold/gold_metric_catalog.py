"""gold_metric_catalog: the metrics in the gold tables and their definitions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import ibis
import ibis.expr.types as ir
import pandas as pd

from monstera_assets.gold import authoring as ma
from monstera_assets.gold.metrics import NAMING_CONVENTION

TABLE = ma.declare_table(
    "gold_metric_catalog",
    group=ma.AssetGroup.CATALOG,
    grain="one metric in one table",
    description="Which metrics exist, how are they defined and computed, and who owns them? The rows"
    " come from the gold table declarations.",
    key=("table_name", "column_name"),
    columns=(
        *ma.columns(
            "string",
            metric_name="Name in Title Case: [Entity] [Action or State] [Time Period] [by Segment].",
        ),
        ma.nullable(
            "short_name", "string", "Name in general use, such as MAU, or null if there is none."
        ),
        *ma.columns(
            "string",
            table_name="Gold table that contains the metric.",
            column_name="Column that contains the metric.",
            description="The metric's definition.",
            formula="The metric's formula.",
            grain="The table's grain.",
            dimensions="The table's dimensions, separated by commas.",
            unit="The metric's unit. Amounts of money are in the reporting currency.",
        ),
        *ma.columns(
            "float64",
            nullable=True,
            lower_bound="The lowest possible value, or null if there is no limit.",
            upper_bound="The highest possible value, or null if there is no limit.",
        ),
        ma.nullable(
            "population",
            "string",
            "What the denominator of a quotient, mean or median counts or sums up; null for counts and"
            " amounts of money.",
        ),
        *ma.columns(
            "boolean", is_nullable="Whether the metric can be null, as specified in `description`."
        ),
        *ma.columns(
            "string",
            business_owner="Team that defines the metric.",
            technical_owner="Team that computes the metric.",
            dashboard_owner="Team that owns the dashboards showing the metric.",
            refresh="How often the metric is computed, and for which dates.",
            source_tables="Tables from which the metric is computed, separated by commas.",
            caveats="What to consider when interpreting the metric; may be empty.",
        ),
    ),
)


_DEFINITION = ("short_name", "description", "formula", "unit", "population")


def metric_catalog_asset(
    assets: Iterable[ma.TableAsset], policy: ma.LifecyclePolicy
) -> ma.TableAsset:
    """Return the metric catalog asset for the metrics in the given assets."""
    rows = catalog_rows(list(assets), policy)

    def gold_metric_catalog() -> pd.DataFrame:
        return pd.DataFrame(rows, columns=[column.name for column in TABLE.columns])

    return ma.TableAsset(TABLE, gold_metric_catalog)


def catalog_rows(
    assets: Sequence[ma.TableAsset], policy: ma.LifecyclePolicy
) -> list[dict[str, object]]:
    """Return the catalog rows, sorted by table and then by column order."""
    currency = policy.reporting_currency
    return [
        {
            "metric_name": metric.name,
            "short_name": metric.short_name or None,
            "table_name": table.name,
            "column_name": metric.column_name,
            "description": metric.definition,
            "formula": metric.formula,
            "grain": table.grain,
            "dimensions": ", ".join(column.name for column in table.dimensions),
            "unit": metric.unit.in_currency(currency),
            "lower_bound": metric.bounds[0],
            "upper_bound": metric.bounds[1],
            "population": metric.population or None,
            "is_nullable": metric.column.nullable,
            "business_owner": table.business_owner,
            "technical_owner": ", ".join(table.owners),
            "dashboard_owner": table.dashboard_owner,
            "refresh": (
                "daily, for each date" if table.partition_column else "daily, for the latest date"
            ),
            "source_tables": ", ".join(sorted(asset.inputs)),
            "caveats": metric.caveats,
        }
        for asset, table in sorted(_metric_tables(assets), key=lambda pair: pair[1].name)
        for metric in table.metrics
    ]


def _metric_tables(
    assets: Iterable[ma.TableAsset],
) -> Iterable[tuple[ma.TableAsset, ma.MetricTable]]:
    return ((asset, asset.table) for asset in assets if isinstance(asset.table, ma.MetricTable))


@ma.rule(TABLE)
def names_follow_convention(gold_metric_catalog: ir.Table) -> ir.Table:
    """Each metric name follows the naming convention, and the column name is its snake_case form."""
    name = gold_metric_catalog.metric_name
    return gold_metric_catalog.filter(
        ~name.re_search(NAMING_CONVENTION)
        | (gold_metric_catalog.column_name != name.lower().replace(" ", "_"))
    ).select("table_name", "column_name", "metric_name")


@ma.rule(TABLE)
def one_meaning_a_name(gold_metric_catalog: ir.Table) -> ir.Table:
    """Metrics with the same name have the same definition in every table.

    The definition includes the short name, formula, unit and population.
    """
    metrics = gold_metric_catalog
    meanings = metrics.select("metric_name", *_DEFINITION).distinct()
    counted = meanings.group_by("metric_name").aggregate(meanings=meanings.count())
    return counted.filter(counted.meanings > 1)


@ma.rule(TABLE)
def nothing_is_left_empty(gold_metric_catalog: ir.Table) -> ir.Table:
    """Each metric has a definition, a formula, a unit, owners and source tables."""
    metrics = gold_metric_catalog
    filled = [c.name for c in TABLE.columns if c.type == "string" and c.name != "caveats"]
    is_empty = ibis.or_(*((metrics[name].strip() == "").fill_null(False) for name in filled))
    return metrics.filter(is_empty).select("table_name", "column_name")
