"""Compute workflow runs by matching step events in order (framework, section 7).

A run is identified by a user, a workflow and an instance (the project if any, otherwise the session
if any, otherwise the day). The run starts with the first event of step 1 in the instance. The run
advances with each subsequent step that occurs in order and within `workflow_days` of the start. An
event counts as at most one step. All other step events leave the run unchanged.
"""

from __future__ import annotations

from enum import StrEnum

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.rules as rlz
import ibis.expr.types as ir
from ibis.common.annotations import attribute

from monstera_assets.lifecycle.expressions import materialized
from monstera_assets.lifecycle.intervals import day_number
from monstera_assets.lifecycle.policy import LifecyclePolicy

RUN = ("user_id", "workflow_id", "instance_type", "instance_id")
"""The columns that identify a run."""


class InstanceType(StrEnum):
    """The kind of instance that distinguishes a user's runs of a workflow."""

    PROJECT = "project"
    SESSION = "session"
    DAY = "day"


class RunStatus(StrEnum):
    """The status of a run at the end of a day."""

    COMPLETED = "completed"
    OPEN = "open"
    ABANDONED = "abandoned"


class MatchedInOrder(ops.Value):  # type: ignore[misc]  # Ibis has no stubs
    """The moments at which steps 1, 2, ... occur in order among the given steps.

    Ibis has no fold operation, so the compiler in `warehouse` renders the engine's own fold.

    Args:
        steps: an array of structs with `moment` and `minus_number`, the negative step number.
    """

    steps: ops.Value[dt.Array[dt.Struct]]

    shape = rlz.shape_like("args")

    @attribute  # type: ignore[untyped-decorator]  # Ibis has no stubs
    def dtype(self) -> dt.DataType:
        """Return the type, an array of moments."""
        return dt.Array(self.steps.dtype.value_type["moment"])


def with_position(workflows: ir.Table) -> ir.Table:
    """Add `position` to the steps in bronze_workflows, numbered 1, 2, ... without gaps."""
    by_step = ibis.window(group_by="workflow_id", order_by="step_number")
    return workflows.mutate(position=workflows.step_number.dense_rank().over(by_step) + 1)


def workflow_runs(steps: ir.Table, workflows: ir.Table, policy: LifecyclePolicy) -> ir.Table:
    """Return the workflow runs, computed from step events.

    The runs as of a date depend only on events through that date. Later events change neither a
    run's start nor the steps it has already reached.

    The inputs are bronze_workflows and silver_workflow_steps from each instance's first day.

    Returns:
        One row per run: `RUN`, `started_at`, `started_day` (number), `steps` (the number of steps in
        the workflow), `steps_reached`, `reached_at` (an array of the times at which each step was
        reached), `last_step_day` (number), `completed_at` and `completed_day` (both null if the run is
        not completed).
    """
    positions = with_position(workflows).select("workflow_id", "step_number", "position")
    lengths = positions.group_by("workflow_id").aggregate(steps=positions.position.max())
    events = materialized(steps.inner_join(positions, ["workflow_id", "step_number"]))
    first_steps = events.filter(events.position == 1)
    starts = first_steps.group_by(*RUN).aggregate(
        started_at=first_steps.step_at.min(), started_date=first_steps.step_date.min()
    )
    # A one-step workflow can start several times in an instance. Only the first start counts.
    in_time = events.inner_join(starts, RUN)
    in_time = in_time.filter(
        in_time.step_at >= in_time.started_at,
        day_number(in_time.step_date) - day_number(in_time.started_date) <= policy.workflow_days,
    )
    # Sort by moment and event, and then later steps first, so that an event that matches two steps
    # counts as only one of them.
    step = ibis.struct(
        {
            "moment": ibis.struct({"at": in_time.step_at, "on": in_time.step_date}),
            "event_id": in_time.event_id,
            "minus_number": -in_time.position.cast("int64"),
        }
    )
    runs = in_time.group_by(*RUN, "started_at", "started_date").aggregate(
        matched=MatchedInOrder(step.collect().sort()).to_expr()
    )
    runs = runs.inner_join(lengths, "workflow_id")
    reached = runs.matched.length()
    last_step = runs.matched[reached - 1]
    last_step_day, is_completed = day_number(last_step["on"]), reached == runs.steps
    return runs.select(
        *RUN,
        "started_at",
        "steps",
        started_day=day_number(runs.started_date),
        steps_reached=reached.cast("int64"),
        reached_at=runs.matched.map(lambda step: step["at"]),
        last_step_day=last_step_day,
        completed_at=ibis.ifelse(is_completed, last_step["at"], None),
        completed_day=ibis.ifelse(is_completed, last_step_day, None),
    )


def run_status(runs: ir.Table, day: ir.IntegerValue, policy: LifecyclePolicy) -> ir.StringValue:
    """Return the status of each run at the end of a day, given as a day number."""
    return ibis.cases(
        (runs.completed_at.notnull(), RunStatus.COMPLETED),
        (day - runs.started_day <= policy.workflow_days, RunStatus.OPEN),
        else_=RunStatus.ABANDONED,
    )
