"""Workflow runs: step events matched in order (framework, section 7).

A run is a user, a workflow and an instance: the project, else the session, else the day. It starts with
the instance's first step 1 and advances with each next step, in order, within the policy's
`workflow_days` after the start. An event makes at most one step. Other steps do not advance the run.
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
"""Columns that identify a run."""


class InstanceType(StrEnum):
    """Kind of instance that separates the runs of a user in a workflow."""

    PROJECT = "project"
    SESSION = "session"
    DAY = "day"


class RunStatus(StrEnum):
    """Status of a run on a date."""

    COMPLETED = "completed"
    OPEN = "open"
    ABANDONED = "abandoned"


class MatchedInOrder(ops.Value):  # type: ignore[misc]  # Ibis has no stubs
    """The moments of the steps 1, 2, ... that occur in this order among the given steps.

    Ibis has no fold operation; the warehouse's compiler renders the engine's.

    Args:
        steps: array of structs with `moment` and `minus_number`, the negated step number.
    """

    steps: ops.Value[dt.Array[dt.Struct]]

    shape = rlz.shape_like("args")

    @attribute  # type: ignore[untyped-decorator]  # Ibis has no stubs
    def dtype(self) -> dt.DataType:
        """Return the type: an array of moments."""
        return dt.Array(self.steps.dtype.value_type["moment"])


def with_position(workflows: ir.Table) -> ir.Table:
    """Add `position` to the steps of bronze_workflows: 1, 2, ... without gaps."""
    by_step = ibis.window(group_by="workflow_id", order_by="step_number")
    return workflows.mutate(position=workflows.step_number.dense_rank().over(by_step) + 1)


def workflow_runs(steps: ir.Table, workflows: ir.Table, policy: LifecyclePolicy) -> ir.Table:
    """Return the runs that step events make.

    A run as of a date depends only on events up to that date: later ones change neither its start nor
    the steps reached.

    Reads bronze_workflows, and silver_workflow_steps since the first day of each instance.

    Returns:
        One row per run: `RUN`, `started_at`, `started_day` (number), `steps` (of the workflow),
        `steps_reached`, `reached_at` (array: when each step was reached), `completed_at` and
        `completed_day` (null if not completed).
    """
    positions = with_position(workflows).select("workflow_id", "step_number", "position")
    lengths = positions.group_by("workflow_id").aggregate(steps=positions.position.max())
    events = materialized(steps.inner_join(positions, ["workflow_id", "step_number"]))
    first_steps = events.filter(events.position == 1)
    starts = first_steps.group_by(*RUN).aggregate(
        started_at=first_steps.step_at.min(), started_date=first_steps.step_date.min()
    )
    # A one-step workflow can start more than once in an instance; all but the first are repeats.
    in_time = events.inner_join(starts, RUN)
    in_time = in_time.filter(
        in_time.step_at >= in_time.started_at,
        day_number(in_time.step_date) - day_number(in_time.started_date) <= policy.workflow_days,
    )
    # Sort by moment and event, then later steps first, so that an event that matches two steps makes
    # only one.
    step = ibis.struct(
        {
            "moment": in_time.step_at,
            "event_id": in_time.event_id,
            "minus_number": -in_time.position.cast("int64"),
        }
    )
    runs = in_time.group_by(*RUN, "started_at", "started_date").aggregate(
        reached_at=MatchedInOrder(step.collect().sort()).to_expr()
    )
    runs = runs.inner_join(lengths, "workflow_id")
    reached = runs.reached_at.length()
    completed_at = ibis.ifelse(reached == runs.steps, runs.reached_at[reached - 1], None)
    return runs.select(
        *RUN,
        "started_at",
        "steps",
        "reached_at",
        started_day=day_number(runs.started_date),
        steps_reached=reached.cast("int64"),
        completed_at=completed_at,
        completed_day=day_number(completed_at.date()),
    )


def run_status(runs: ir.Table, day: ir.IntegerValue, policy: LifecyclePolicy) -> ir.StringValue:
    """Return the status of runs at the end of a day (number)."""
    return ibis.cases(
        (runs.completed_at.notnull(), RunStatus.COMPLETED),
        (day - runs.started_day <= policy.workflow_days, RunStatus.OPEN),
        else_=RunStatus.ABANDONED,
    )
