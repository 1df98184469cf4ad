"""bronze_user_aliases: the other ids of users."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze import authoring as ma

IN_CYCLE = "alias_in_cycle"
"""The fault of an alias that is in a cycle of aliases or leads into one."""

TABLE = ma.declare_table(
    "bronze_user_aliases",
    group=ma.AssetGroup.INTAKE,
    grain="one alias",
    description="Which other ids do users have? Events, subscription events and users under an alias"
    " are merged into the user.",
    key=("alias_id",),
    columns=(
        ma.Column("alias_id", "string", "The id that is replaced."),
        ma.Column("user_id", "string", "The id in the source that replaces the alias."),
        ma.Column(
            "merged_user_id",
            "string",
            "The id at the end of the chain of aliases, which replaces the alias in all tables. If the"
            " alias is in a cycle or leads into one, the alias itself.",
        ),
        ma.nullable(
            "alias_created_at",
            "timestamp",
            "Earliest known signup time in UTC in the rows of users under the alias, or null if there"
            " are no such rows.",
        ),
        ma.FAULTS_COLUMN,
    ),
)

REQUIRED = ("alias_id", "user_id")
SOURCE_COLUMNS = REQUIRED


def classify(rows: ir.Table, reading: ma.Reading) -> ir.Table:
    """Return typed rows with a rejection reason, which is null for accepted rows.

    `resolved_aliases` fills the columns that are not in the source.
    """
    rows = ma.typed(rows, TABLE.columns, reading)
    rows = rows.mutate(
        merged_user_id=rows.alias_id,
        alias_created_at=ibis.null("timestamp"),
        **{ma.FAULTS: ibis.null("string")},
    )
    return ma.keep_last(ma.with_reason(rows, ma.missing(rows, REQUIRED)), TABLE.key, SOURCE_COLUMNS)


@ma.rule(TABLE)
def chains_end_at_users(bronze_user_aliases: ir.Table) -> ir.Table:
    """Unless an alias is in a cycle or leads into one, it is replaced by an id that is not an alias."""
    aliases = bronze_user_aliases
    ends = aliases.select(end_id=aliases.alias_id)
    is_alias = aliases.semi_join(ends, aliases.merged_user_id == ends.end_id)
    not_merged = aliases.filter(aliases.merged_user_id == aliases.alias_id)
    return (
        is_alias.filter(is_alias.merged_user_id != is_alias.alias_id)
        .union(not_merged.filter(not_merged[ma.FAULTS].isnull()))
        .select("alias_id", "user_id", "merged_user_id")
    )
