"""Workflow runs: which steps of a workflow follow upon each other (framework, section 7).

A run is a user, a workflow and an instance: the project, else the session, else the day. It starts
with the instance's first step 1 and goes on as the next step follows, in order, each event making
one step at most, within the policy's `workflow_days` after the start. Steps out of order, repeated or
late leave it where it is.
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
"""What identifies a run."""


class InstanceType(StrEnum):
    """What tells the runs of a user and workflow apart."""

    PROJECT = "project"
    SESSION = "session"
    DAY = "day"


class RunStatus(StrEnum):
    """How a run stands on a date."""

    COMPLETED = "completed"
    OPEN = "open"
    ABANDONED = "abandoned"


class MatchedInOrder(ops.Value):  # type: ignore[misc]  # Ibis has no stubs
    """Of steps, in order, the moments of those whose number is the next one: of steps 1, 2, ...

    A fold, which Ibis has no operation for; the warehouse's compiler has the engine's.

    Args:
        steps: array of structs with `moment`, and `minus_number`, the step's number below zero.
    """

    steps: ops.Value[dt.Array[dt.Struct]]

    shape = rlz.shape_like("args")

    @attribute  # type: ignore[untyped-decorator]  # Ibis has no stubs
    def dtype(self) -> dt.DataType:
        """An array of moments."""
        return dt.Array(self.steps.dtype.value_type["moment"])


def with_position(workflows: ir.Table) -> ir.Table:
    """The steps of bronze_workflows with their `position`, which counts from 1 without gaps."""
    by_step = ibis.window(group_by="workflow_id", order_by="step_number")
    return workflows.mutate(position=workflows.step_number.dense_rank().over(by_step) + 1)


def workflow_runs(steps: ir.Table, workflows: ir.Table, policy: LifecyclePolicy) -> ir.Table:
    """The runs that step events make.

    What a run has reached on a date depends on the events up to that date only: later ones never
    change its start, nor the steps that it has reached.

    Reads bronze_workflows and silver_workflow_steps, from the first day on for each of its instances.

    Returns:
        One row a run: `RUN`, `started_at`, `started_day` (number), `steps` (of the workflow),
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
    # A workflow of one step can start more than once in an instance; all but the first are repeated.
    in_time = events.inner_join(starts, RUN)
    in_time = in_time.filter(
        in_time.step_at >= in_time.started_at,
        day_number(in_time.step_date) - day_number(in_time.started_date) <= policy.workflow_days,
    )
    # Sorted as wholes: by moment and event, and the later step first where one event could make two,
    # so that it makes one at most.
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
    """How runs stand at the end of a day (number): completed, still open, or abandoned."""
    return ibis.cases(
        (runs.completed_at.notnull(), RunStatus.COMPLETED),
        (day - runs.started_day <= policy.workflow_days, RunStatus.OPEN),
        else_=RunStatus.ABANDONED,
    )
