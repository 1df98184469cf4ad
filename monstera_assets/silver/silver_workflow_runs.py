"""silver_workflow_runs: the progress of each workflow run."""

from __future__ import annotations

import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.lifecycle.workflows import (
    RUN,
    RunStatus,
    run_status,
    with_position,
    workflow_runs,
)
from monstera_assets.silver.silver_workflow_steps import RUN_COLUMNS

TABLE = ma.declare_table(
    "silver_workflow_runs",
    group=ma.AssetGroup.SEGMENTS,
    grain="one workflow run, identified by user, workflow and instance",
    description="How far did each workflow run get by the end of the as-of date? A run starts with"
    " step 1, and steps count only if they occur in order.",
    key=RUN,
    columns=(
        *RUN_COLUMNS,
        ma.Column("started_at", "timestamp", "Time of the first event for step 1, in UTC."),
        ma.Column("started_date", "date", "Date of the first event for step 1."),
        ma.Column("steps", "int64", "Number of steps in the workflow."),
        ma.Column(
            "steps_reached", "int64", "Number of steps reached in order, which is at least 1."
        ),
        ma.Column("last_step_at", "timestamp", "Time of the last step reached, in UTC."),
        ma.Column("last_step_date", "date", "Date of the last step reached."),
        ma.Column(
            "status",
            "string",
            "Status of the run. An uncompleted run is open while it can still be completed in time,"
            " and abandoned after that.",
            allowed=tuple(RunStatus),
        ),
        ma.nullable(
            "completed_at",
            "timestamp",
            "Time of completion in UTC, or null if the run is not completed.",
        ),
        ma.nullable(
            "hours_to_complete",
            "float64",
            "Hours from start to completion, or null if the run is not completed.",
        ),
        ma.AS_OF_DATE,
    ),
)


@ma.table_asset(
    TABLE, days={"silver_user_state_history": ma.LATEST_DAY, "silver_workflow_steps": ma.ALL_DAYS}
)
def silver_workflow_runs(
    silver_user_state_history: ir.Table,
    silver_workflow_steps: ir.Table,
    bronze_workflows: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
) -> ir.Table:
    """Return the workflow runs, computed from the steps through the as-of date."""
    runs = runs_up_to(
        as_of_date(silver_user_state_history), silver_workflow_steps, bronze_workflows, policy
    )
    return runs.mutate(
        started_date=ma.day_date(runs.started_day),
        last_step_at=runs.reached_at[runs.steps_reached - 1],
        last_step_date=ma.day_date(runs.last_step_day),
        hours_to_complete=ma.hours_between(runs.started_at, runs.completed_at),
    ).select(ma.column_names(TABLE.columns))


def as_of_date(history: ir.Table) -> ir.Table:
    """Return one row with `as_of_date`, the latest day in a history."""
    return history.aggregate(as_of_date=history.snapshot_date.max())


def runs_up_to(
    as_of: ir.Table, steps: ir.Table, workflows: ir.Table, policy: ma.LifecyclePolicy
) -> ir.Table:
    """Return the runs as of a date, with `as_of_date` and the `status` on that date."""
    steps = steps.filter(steps.step_date <= as_of.as_of_date.as_scalar())
    runs = workflow_runs(steps, workflows, policy).cross_join(as_of)
    return runs.mutate(status=run_status(runs, ma.day_number(runs.as_of_date), policy))


@ma.rule(TABLE)
def runs_have_a_first_step(
    silver_workflow_runs: ir.Table, silver_workflow_steps: ir.Table, bronze_workflows: ir.Table
) -> ir.Table:
    """Each instance with a first step has exactly one run, and no other instance has a run."""
    positions = with_position(bronze_workflows)
    firsts = positions.filter(positions.position == 1).select("workflow_id", "step_number")
    as_of = silver_workflow_runs.aggregate(day=silver_workflow_runs.as_of_date.max())
    steps = silver_workflow_steps.semi_join(firsts, ["workflow_id", "step_number"])
    steps = steps.filter(steps.step_date <= as_of.day.as_scalar())
    expected = steps.group_by(*RUN).aggregate(started_at=steps.step_at.min())
    return ma.differing_rows(silver_workflow_runs.select(*expected.columns), expected)


@ma.rule(TABLE)
def status_fits_steps(silver_workflow_runs: ir.Table, *, policy: ma.LifecyclePolicy) -> ir.Table:
    """A run is completed if and only if it reached all steps within workflow_days."""
    runs = silver_workflow_runs
    completed = runs.status == RunStatus.COMPLETED
    age = ma.day_number(runs.as_of_date) - ma.day_number(runs.started_date)
    took = ma.day_number(runs.last_step_date) - ma.day_number(runs.started_date)
    return runs.filter(
        (completed != (runs.steps_reached == runs.steps))
        | (completed != runs.completed_at.notnull())
        | ~runs.steps_reached.between(1, runs.steps)
        | ~took.between(0, policy.workflow_days)
        | (~completed & ((runs.status == RunStatus.OPEN) != (age <= policy.workflow_days)))
        | (completed & (runs.completed_at != runs.last_step_at)).fill_null(False)
    )
