"""bronze_rejected_entities: rejected rows from the inputs that are loaded in full."""

from __future__ import annotations

import ibis.expr.types as ir

from monstera_assets.bronze import authoring as ma

TABLE = ma.declare_table(
    "bronze_rejected_entities",
    group=ma.AssetGroup.LOADS,
    grain="one rejected row from an input that is loaded in full",
    description="Which rows in the inputs that are loaded in full break a rule, and why? Each row is"
    " stored as delivered, with the first rejection reason that applies.",
    key=(),
    columns=(
        ma.Column("input_name", "string", "Input that contains the row."),
        *ma.REJECTED_ROW,
    ),
)


@ma.rule(
    TABLE,
    blocking=False,
    remedy="Look up the remedies with monstera check, correct the source, and run again.",
)
def nothing_is_rejected(bronze_rejected_entities: ir.Table) -> ir.Table:
    """No row in the inputs that are loaded in full was rejected.

    Superseded and merged rows are not counted.
    """
    rows = bronze_rejected_entities.filter(
        bronze_rejected_entities.rejection_reason.notin([ma.SUPERSEDED, ma.MERGED])
    )
    return rows.group_by("input_name", "rejection_reason").aggregate(
        rows=rows.count(), example_file=rows.source_file.min()
    )
