"""bronze_source_faults: faults in source rows that were corrected during loading."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze import authoring as ma

_EXAMPLES = 3

TABLE = ma.declare_table(
    "bronze_source_faults",
    group=ma.AssetGroup.LOADS,
    grain="one input, fault and event type",
    description="Which faults in source rows were corrected, and how often? Unlike the rows in"
    " bronze_rejected_events and bronze_rejected_entities, corrected rows are accepted.",
    key=("input_name", "fault", "event_type"),
    columns=(
        ma.Column("input_name", "string", "Input that contains the rows."),
        ma.Column("fault", "string", "The fault's name."),
        ma.Column(
            "event_type",
            "string",
            "Event type of the rows, or an empty string if the rows are not events.",
        ),
        ma.Column("rows", "int64", "Number of corrected rows."),
        ma.nullable(
            "first_date", "date", "Earliest event date, or null if the rows are not events."
        ),
        ma.nullable("last_date", "date", "Latest event date, or null if the rows are not events."),
        ma.Column("example_ids", "array<string>", "Ids of up to three corrected rows."),
    ),
)


@ma.table_asset(TABLE, days={"bronze_events": ma.STORED_DAYS})
def bronze_source_faults(
    bronze_events: ir.Table,
    bronze_subscription_events: ir.Table,
    bronze_users: ir.Table,
    bronze_accounts: ir.Table,
    bronze_product_catalog: ir.Table,
    bronze_user_aliases: ir.Table,
) -> ir.Table:
    """Count the faults that are recorded in accepted rows."""
    events = (("events", bronze_events), ("subscription_events", bronze_subscription_events))
    entities = (
        ("users", ma.current_versions(bronze_users, "user_id"), "user_id"),
        ("accounts", ma.current_versions(bronze_accounts, "account_id"), "account_id"),
        ("product_catalog", bronze_product_catalog, "product_id"),
        ("user_aliases", bronze_user_aliases, "alias_id"),
    )
    found = ibis.union(
        *(
            rows.filter(rows[ma.FAULTS].notnull()).select(
                ma.FAULTS,
                "event_type",
                input_name=ibis.literal(name),
                id=rows.event_id,
                day=rows.event_date,
            )
            for name, rows in events
        ),
        *(
            rows.filter(rows[ma.FAULTS].notnull()).select(
                ma.FAULTS,
                event_type=ibis.literal(""),
                input_name=ibis.literal(name),
                id=rows[key],
                day=ibis.null("date"),
            )
            for name, rows, key in entities
        ),
    )
    single = found.select(
        "input_name", "event_type", "id", "day", fault=found[ma.FAULTS].split(",").unnest()
    )
    return single.group_by("input_name", "fault", "event_type").aggregate(
        rows=single.count(),
        first_date=single.day.min(),
        last_date=single.day.max(),
        example_ids=_smallest(single.id, _EXAMPLES),
    )


@ma.rule(
    TABLE,
    blocking=False,
    remedy="Look up the faults with monstera check, and correct them in the source.",
)
def nothing_is_corrected(bronze_source_faults: ir.Table) -> ir.Table:
    """No source row contained a fault that required correction."""
    faults = bronze_source_faults
    return faults.select(
        "input_name", "fault", "event_type", "rows", example_id=faults.example_ids[0]
    )


@ibis.udf.agg.builtin(name="min", signature=(("string", "int64"), "array<string>"))  # type: ignore[untyped-decorator]  # Ibis has no stubs
def _smallest(values: str, number: int) -> list[str]:  # type: ignore[empty-body]
    """Return the smallest values in ascending order."""
