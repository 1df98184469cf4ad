"""bronze_workflows: the ordered steps in each workflow."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze import authoring as ma

TABLE = ma.declare_table(
    "bronze_workflows",
    group=ma.AssetGroup.CATALOG,
    grain="one step in a workflow",
    description="What are the steps in each workflow, and in what order do they occur? A step is"
    " one event type in one product.",
    key=("workflow_id", "step_number"),
    columns=(
        ma.Column("workflow_id", "string", "The workflow's id."),
        ma.Column("workflow_name", "string", "The workflow's name."),
        ma.Column(
            "product_id",
            "string",
            "Product, feature or sub-feature in which the step occurs.",
            references=ma.Reference("bronze_product_catalog", "product_id"),
        ),
        ma.Column("step_number", "int64", "The step's position in the workflow, starting at 1."),
        ma.Column("event_type", "string", "The step's event type."),
    ),
)


REQUIRED = ("workflow_id", "product_id", "step_number", "event_type")
SOURCE_COLUMNS = ("workflow_id", "workflow_name", "product_id", "step_number", "event_type")


def classify(rows: ir.Table, catalog: ir.Table, reading: ma.Reading) -> ir.Table:
    """Return typed rows with a rejection reason, which is null for accepted rows."""
    rows = ma.typed(rows, TABLE.columns, reading)
    rows = rows.mutate(workflow_name=ibis.coalesce(rows.workflow_name, rows.workflow_id))
    rows, unknown_product = ma.unknown_reference(rows, "product_id", catalog, "unknown_product")
    below_families = catalog.filter(catalog.tier != "family").select(node_id="product_id")
    rows = rows.mutate(node_id=rows.product_id)
    rows, in_family = ma.unknown_reference(rows, "node_id", below_families, "step_in_a_family")
    rules = [
        *ma.missing(rows, REQUIRED),
        *ma.unreadable(rows, ["step_number"]),
        ("step_number_below_1", rows.step_number < 1),
        unknown_product,
        in_family,
    ]
    return ma.keep_last(ma.with_reason(rows, rules), TABLE.key, SOURCE_COLUMNS)
