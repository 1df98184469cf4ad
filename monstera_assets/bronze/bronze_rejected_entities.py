"""bronze_rejected_entities: rejected rows of the inputs that are loaded in full."""

from __future__ import annotations

import ibis.expr.types as ir

from monstera_assets.bronze import authoring as ma

TABLE = ma.declare_table(
    "bronze_rejected_entities",
    grain="one rejected row of users, accounts, product catalog, workflows or subscription events",
    description="Which rows of the fully loaded inputs break a rule, and why? Rows are"
    " stored as delivered, with the first reason that applies.",
    key=(),
    columns=(
        ma.Column("input_name", "string", "Input of the row."),
        *ma.REJECTED_ROW,
    ),
)


@ma.rule(TABLE, blocking=False)
def nothing_is_rejected(bronze_rejected_entities: ir.Table) -> ir.Table:
    """No row of the source was rejected."""
    rows = bronze_rejected_entities
    return rows.group_by("input_name", "rejection_reason").aggregate(
        rows=rows.count(), example_file=rows.source_file.min()
    )
