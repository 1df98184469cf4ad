"""silver_workflow_funnel: the number of workflow runs that reached each step."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.bronze.bronze_product_catalog import product_of_node
from monstera_assets.lifecycle.workflows import RunStatus, with_position
from monstera_assets.silver.silver_workflow_runs import as_of_date, runs_up_to

TABLE = ma.declare_table(
    "silver_workflow_funnel",
    group=ma.AssetGroup.SEGMENTS,
    grain="one workflow step",
    description="How many runs of each workflow reached each step by the as-of date? A run is"
    " completed when it reaches the last step.",
    key=("workflow_id", "step_number"),
    columns=(
        ma.WORKFLOW_ID,
        ma.STEP_NUMBER,
        ma.Column("workflow_name", "string", "Name of the workflow."),
        ma.Column("event_type", "string", "Event type for the step."),
        ma.product_column("product_id", "Product in which the step takes place."),
        ma.Column("position", "int64", "Position of the step in the workflow, starting at 1."),
        ma.Column("is_last_step", "boolean", "Whether the step completes the workflow."),
        ma.Column("products", "int64", "Number of products in the workflow."),
        ma.Column("runs_started", "int64", "Number of workflow runs started."),
        ma.Column("runs_reached", "int64", "Number of workflow runs that reached the step."),
        ma.share(
            "reach_rate",
            "runs_reached / runs_started, between 0 and 1, or null if no runs started.",
        ),
        ma.Column("runs_abandoned", "int64", "Number of runs that were abandoned after this step."),
        ma.Column(
            "runs_open", "int64", "Number of runs at this step that can still be completed in time."
        ),
        ma.nullable(
            "median_hours_since_start",
            "float64",
            "Median hours from the first step to this step, or null if no runs reached this step.",
        ),
        ma.AS_OF_DATE,
    ),
)


@ma.table_asset(
    TABLE, days={"silver_user_state_history": ma.LATEST_DAY, "silver_workflow_steps": ma.ALL_DAYS}
)
def silver_workflow_funnel(
    silver_user_state_history: ir.Table,
    silver_workflow_steps: ir.Table,
    bronze_workflows: ir.Table,
    bronze_product_catalog: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
) -> ir.Table:
    """Count the runs that reached each step and the runs that are abandoned or open at each step."""
    as_of = as_of_date(silver_user_state_history)
    runs = ma.materialized(runs_up_to(as_of, silver_workflow_steps, bronze_workflows, policy))
    started = runs.group_by("workflow_id").aggregate(runs_started=runs.count())
    # Unnesting both lists at once would pair their items in DuckDB and cross them in Spark.
    reached = runs.select(
        "workflow_id",
        "started_at",
        "steps_reached",
        "status",
        "reached_at",
        position=ibis.range(1, runs.steps_reached + 1).unnest().cast("int64"),
    )
    reached = reached.mutate(moment=reached.reached_at[reached.position - 1])
    stands = reached.position == reached.steps_reached
    counted = reached.group_by("workflow_id", "position").aggregate(
        runs_reached=reached.count(),
        runs_abandoned=reached.count(where=stands & (reached.status == RunStatus.ABANDONED)),
        runs_open=reached.count(where=stands & (reached.status == RunStatus.OPEN)),
        median_hours_since_start=ma.hours_between(reached.started_at, reached.moment).median(),
    )
    nodes = product_of_node(bronze_product_catalog).rename(rolled_up_product_id="product_id")
    shape = with_position(bronze_workflows).left_join(
        nodes, bronze_workflows.product_id == nodes.node_id
    )
    whole = shape.group_by("workflow_id").aggregate(
        last_position=shape.position.max(), products=shape.rolled_up_product_id.nunique()
    )
    funnel = ma.left_joined(shape.inner_join(whole, "workflow_id"), started, on=["workflow_id"])
    funnel = ma.left_joined(funnel, counted, on=["workflow_id", "position"]).cross_join(as_of)
    counts = ("runs_started", "runs_reached", "runs_abandoned", "runs_open")
    funnel = funnel.mutate(**{name: funnel[name].fill_null(0) for name in counts})
    return funnel.mutate(
        product_id=funnel.rolled_up_product_id,
        is_last_step=funnel.position == funnel.last_position,
        reach_rate=ma.ratio(funnel.runs_reached, funnel.runs_started),
    ).select(ma.column_names(TABLE.columns))


@ma.rule(TABLE)
def agrees_with_runs(silver_workflow_funnel: ir.Table, silver_workflow_runs: ir.Table) -> ir.Table:
    """The funnel matches the runs: each run has started and is at exactly one step."""
    funnel = silver_workflow_funnel
    published = funnel.group_by("workflow_id").aggregate(
        started=funnel.runs_started.max(),
        at_first_step=funnel.runs_reached.max(),
        completed=funnel.runs_reached.sum(where=funnel.is_last_step).cast("int64"),
        abandoned=funnel.runs_abandoned.sum().cast("int64"),
        open=funnel.runs_open.sum().cast("int64"),
    )
    runs = silver_workflow_runs
    counted = runs.group_by("workflow_id").aggregate(
        started=runs.count(),
        at_first_step=runs.count(),
        completed=runs.count(where=runs.status == RunStatus.COMPLETED),
        abandoned=runs.count(where=runs.status == RunStatus.ABANDONED),
        open=runs.count(where=runs.status == RunStatus.OPEN),
    )
    return ma.differing_rows(published.filter(published.started > 0), counted)
