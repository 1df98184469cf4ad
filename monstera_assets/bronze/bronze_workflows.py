"""bronze_workflows: the steps of each workflow, in order."""

from __future__ import annotations

import ibis.expr.types as ir

from monstera_assets.bronze import OWNERS
from monstera_assets.bronze.validation import (
    Rule,
    missing,
    rank_duplicates,
    typed,
    unknown_reference,
    unreadable,
    with_reason,
)
from monstera_assets.warehouse.tables import Column, Layer, Reference, Table

TABLE = Table(
    layer=Layer.BRONZE,
    name="bronze_workflows",
    grain="one step of a workflow",
    description="Workflows as ordered steps, each an event type in a product.",
    owners=OWNERS,
    key=("workflow_id", "step_number"),
    columns=(
        Column("workflow_id", "string", "Identifier of the workflow."),
        Column("workflow_name", "string", "Name of the workflow."),
        Column(
            "product_id",
            "string",
            "Product, feature or sub-feature in which the step happens.",
            references=Reference("bronze_product_catalog", "product_id"),
        ),
        Column("step_number", "int64", "Position of the step, from 1."),
        Column("event_type", "string", "Event type that makes the step."),
    ),
)

REQUIRED = tuple(column.name for column in TABLE.columns)


def classify(rows: ir.Table, catalog: ir.Table) -> ir.Table:
    """Typed rows with the reason for which each is rejected, null if accepted."""
    rows = typed(rows, TABLE)
    rows = rank_duplicates(
        rows,
        ["workflow_id", "step_number"],
        [rows.source_file, rows.product_id, rows.event_type, rows.workflow_name],
    )
    rows, unknown_product = unknown_reference(
        rows, "product_id", catalog, "product_id", "unknown_product"
    )
    rows, in_family = unknown_reference(
        rows.mutate(node_id=rows.product_id),
        "node_id",
        catalog.filter(catalog.tier != "family"),
        "product_id",
        "step_in_a_family",
    )
    rules: list[Rule] = [
        *missing(rows, REQUIRED),
        ("duplicate_step", rows.duplicate_rank > 0),
        *unreadable(rows, {"step_number": "step_number"}),
        ("step_number_below_1", rows.step_number < 1),
        unknown_product,
        in_family,
    ]
    return with_reason(rows, rules)
