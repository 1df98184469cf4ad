"""Workflow runs (section 7 of the framework), computed from the events of one user in order.

The oracle assumes that an instance has one run, which starts with the first event of step 1, that
"within" refers to a difference of dates, and that one event counts as at most one step of a run.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True)
class StepEvent:
    """One event of a user, with the attributes on which workflows depend.

    Attributes:
        at: The time of the event, UTC.
        event_id: The event id, which orders events with the same time.
        event_type: The event type.
        nodes: The catalog node that the event names and all nodes above it.
        project_id: The project in the event's metadata, if any.
        session_id: The session, if any.
    """

    at: datetime
    event_id: str
    event_type: str
    nodes: frozenset[str]
    project_id: str | None = None
    session_id: str | None = None

    @property
    def instance(self) -> tuple[str, str]:
        """Return the project, otherwise the session, otherwise the day."""
        if self.project_id is not None:
            return "project", self.project_id
        if self.session_id is not None:
            return "session", self.session_id
        return "day", self.at.date().isoformat()


@dataclass(frozen=True)
class Run:
    """One run. ``reached`` contains the time of each step that was reached, in order."""

    workflow_id: str
    instance: tuple[str, str]
    steps: int
    reached: tuple[datetime, ...]

    @property
    def completed_at(self) -> datetime | None:
        """Return the time of the last step if it was reached."""
        return self.reached[-1] if len(self.reached) == self.steps else None

    def status(self, day: date, workflow_days: int) -> str:
        """Return whether the run is completed, open or abandoned at the end of a day."""
        if self.completed_at is not None:
            return "completed"
        age = (day - self.reached[0].date()).days
        return "open" if age <= workflow_days else "abandoned"


def workflow_runs(
    events: Iterable[StepEvent],
    workflows: Mapping[str, Sequence[tuple[str, str]]],
    through: date,
    workflow_days: int,
) -> list[Run]:
    """Return the runs of one user, computed from the events up to a date.

    Args:
        events: The user's events in any order.
        workflows: The steps of each workflow in order, each with its node and event type.
        through: The last date whose events are known.
        workflow_days: The maximum number of days between the first and the last step.
    """
    by_instance: dict[tuple[str, str], list[StepEvent]] = {}
    for event in sorted(events, key=lambda e: (e.at, e.event_id)):
        if event.at.date() <= through:
            by_instance.setdefault(event.instance, []).append(event)
    runs = []
    for workflow_id, steps in workflows.items():
        for instance, known in by_instance.items():
            reached: list[datetime] = []
            for event in known:
                if len(reached) == len(steps):
                    break
                node, event_type = steps[len(reached)]
                is_next = event.event_type == event_type and node in event.nodes
                late = reached and (event.at.date() - reached[0].date()).days > workflow_days
                if is_next and not late:
                    reached.append(event.at)
            if reached:
                runs.append(Run(workflow_id, instance, len(steps), tuple(reached)))
    return runs
