"""silver_workflow_steps: user events that are workflow steps."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.bronze.bronze_product_catalog import feature_of_node
from monstera_assets.bronze.json_text import text_at
from monstera_assets.lifecycle.workflows import InstanceType

RUN_COLUMNS = (
    ma.USER_ID,
    ma.WORKFLOW_ID,
    ma.Column(
        "instance_type",
        "string",
        "Kind of instance that distinguishes the user's runs: the project if any, otherwise the"
        " session if any, otherwise the day.",
        allowed=tuple(InstanceType),
    ),
    ma.Column("instance_id", "string", "Identifier of the project or session, or the date."),
)
"""The columns that identify a run."""

TABLE = ma.declare_table(
    "silver_workflow_steps",
    group=ma.AssetGroup.SEGMENTS,
    grain="one event and workflow step",
    description="Which user events are workflow steps, and which run do they belong to? Out-of-order"
    " steps are included. silver_workflow_runs shows how far each run got.",
    key=("event_id", "workflow_id", "step_number"),
    partition_column="step_date",
    takes_earlier_rows=True,
    columns=(
        *RUN_COLUMNS,
        ma.STEP_NUMBER,
        ma.Column("event_id", "string", "Identifier of the event."),
        ma.Column("step_at", "timestamp", "Time of the event in UTC."),
        ma.Column("step_date", "date", "Date of the event."),
    ),
)


@ma.table_asset(TABLE, days={"silver_events_enriched": ma.SAME_DAYS})
def silver_workflow_steps(
    silver_events_enriched: ir.Table, bronze_workflows: ir.Table, bronze_product_catalog: ir.Table
) -> ir.Table:
    """Match events to steps by event type and by product, feature or sub-feature."""
    steps = bronze_workflows.select(
        "workflow_id", "step_number", step_type="event_type", step_node_id="product_id"
    )
    features = feature_of_node(bronze_product_catalog).select(
        "node_id", rolled_up_feature_id="feature_id"
    )
    events = silver_events_enriched.filter(silver_events_enriched.entity_type == "user")
    made = events.inner_join(steps, events.event_type == steps.step_type)
    made = made.left_join(features, made.feature_id == features.node_id)
    made = made.filter(
        ibis.or_(
            *(
                (made.step_node_id == node).fill_null(False)
                for node in (made.product_id, made.feature_id, made.rolled_up_feature_id)
            )
        )
    )
    project = text_at(made.metadata, "project_id")
    return made.mutate(
        user_id=made.entity_id,
        instance_type=ibis.cases(
            (project.notnull(), InstanceType.PROJECT),
            (made.session_id.notnull(), InstanceType.SESSION),
            else_=InstanceType.DAY,
        ),
        instance_id=ibis.coalesce(project, made.session_id, made.event_date.cast("string")),
        step_at=made.event_timestamp,
        step_date=made.event_date,
    ).select(ma.column_names(TABLE.columns))
