"""bronze_entity_loads: the ledger for inputs that are loaded in full."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze import authoring as ma
from monstera_assets.bronze.bronze_loads import COUNTS, FILES_TYPE, counts_differ
from monstera_assets.bronze.remedies import mostly_rejected

TABLE = ma.declare_table(
    "bronze_entity_loads",
    group=ma.AssetGroup.LOADS,
    grain="one input that is loaded in full",
    description="Which files were users, aliases of users, accounts, the product catalog, workflows and"
    " subscription events loaded from, and how many rows were accepted?",
    key=("input_name",),
    columns=(
        ma.Column("input_name", "string", "The input's name."),
        ma.Column(
            "files",
            FILES_TYPE,
            "Files that were read, with each file's path in the source folder, size in bytes and"
            " SHA-256 hash.",
        ),
        *COUNTS,
        ma.Column(
            "rows_derived",
            "int64",
            "Number of rows that were derived from other inputs and are not in any file.",
        ),
        ma.Column(
            "rows_stored",
            "int64",
            "Number of rows in the table after the load, including versions from earlier loads.",
        ),
        ma.Column(
            "rows_kept",
            "int64",
            "Number of rows kept from an earlier load because a change to them is held back.",
        ),
    ),
)


@ma.rule(TABLE)
def most_rows_are_accepted(
    bronze_entity_loads: ir.Table,
    bronze_rejected_entities: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
) -> ir.Table:
    """The share of rejected rows in each input is at most max_rejected_share."""
    return mostly_rejected(
        bronze_entity_loads,
        bronze_rejected_entities,
        "input_name",
        max_share=policy.max_rejected_share,
    )


@ma.rule(TABLE)
def rows_add_up(
    bronze_entity_loads: ir.Table,
    bronze_accounts: ir.Table,
    bronze_product_catalog: ir.Table,
    bronze_users: ir.Table,
    bronze_subscription_events: ir.Table,
    bronze_workflows: ir.Table,
    bronze_user_aliases: ir.Table,
    bronze_rejected_entities: ir.Table,
) -> ir.Table:
    """In the ledger and the tables, accepted, repeated and rejected rows add up to the rows read."""
    tables = {
        "accounts": bronze_accounts,
        "product_catalog": bronze_product_catalog,
        "users": bronze_users,
        "subscription_events": bronze_subscription_events,
        "workflows": bronze_workflows,
        "user_aliases": bronze_user_aliases,
    }
    accepted = ibis.union(
        *(
            table.aggregate(in_table=table.count()).mutate(accepted_input=ibis.literal(name))
            for name, table in tables.items()
        )
    )
    rejected = bronze_rejected_entities.group_by(
        rejected_input=bronze_rejected_entities.input_name
    ).aggregate(in_rejected=bronze_rejected_entities.count())
    loads = bronze_entity_loads
    both = accepted.left_join(loads, accepted.accepted_input == loads.input_name)
    both = both.left_join(rejected, both.accepted_input == rejected.rejected_input)
    both = both.select(
        *(column.name for column in COUNTS),
        # Without versions, all stored rows come from this load.
        in_table=both.in_table
        - both.rows_stored.fill_null(0)
        + ibis.ifelse(
            both.accepted_input.isin(["users", "accounts"]),
            both.rows_accepted,
            both.rows_stored - both.rows_derived - both.rows_kept,
        ).fill_null(0),
        input_name=both.accepted_input,
        in_rejected=both.in_rejected.fill_null(0),
    )
    return both.filter(counts_differ(both))
