"""bronze_rejected_entities: rejected rows of the inputs that are loaded whole."""

from __future__ import annotations

import ibis.expr.types as ir

from monstera_assets.bronze import OWNERS
from monstera_assets.checks.rules import rule
from monstera_assets.warehouse.tables import Column, Layer, Table

TABLE = Table(
    layer=Layer.BRONZE,
    name="bronze_rejected_entities",
    grain="one rejected row of users, accounts, product catalog, workflows or subscription events",
    description="Rows of the inputs that are loaded whole which break a rule, as they stood in the"
    " source, with the first reason that applies.",
    owners=OWNERS,
    key=(),
    columns=(
        Column("input_name", "string", "The input that the row belongs to."),
        Column("rejection_reason", "string", "The first rule that the row breaks."),
        Column("source_file", "string", "File, relative to the source folder."),
        Column("raw_row", "string", "The row as JSON, or its line if it is no row at all."),
    ),
)


@rule(TABLE, "No row of the source was rejected; the reasons say why.", blocking=False)
def nothing_is_rejected(bronze_rejected_entities: ir.Table) -> ir.Table:
    """Rejected rows by input and reason."""
    rows = bronze_rejected_entities
    return rows.group_by("input_name", "rejection_reason").aggregate(
        rows=rows.count(), example_file=rows.source_file.min()
    )
