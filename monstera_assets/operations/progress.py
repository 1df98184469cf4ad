"""Show a run's progress as a bar in a terminal, or as plain lines elsewhere."""

from __future__ import annotations

import time

from dagster import DagsterEvent, DagsterEventType
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from monstera_assets.operations.runs import step_name
from monstera_assets.operations.status import print_line

_ENDINGS = {
    DagsterEventType.STEP_SUCCESS: "",
    DagsterEventType.STEP_FAILURE: "  FAILED",
    DagsterEventType.STEP_SKIPPED: "  skipped",
}
_ROW_COUNTS = ("dagster/partition_row_count", "rows_written", "dagster/row_count")


class RunProgress(Progress):
    """A listener for `run_range` that shows the finished steps, current table and rows written."""

    def __init__(self, console: Console, steps: int) -> None:
        super().__init__(
            SpinnerColumn(),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TextColumn("[dim]{task.fields[rows]:,} rows"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._rows: dict[str, dict[str, int]] = {}
        self._began = time.monotonic()
        self._steps = self.add_task("starting", total=steps, rows=0)

    def __call__(self, event: DagsterEvent) -> None:
        """Update the progress for an event in the run."""
        kind, step = event.event_type, step_name(event)
        if kind == DagsterEventType.ASSET_MATERIALIZATION:
            made = event.step_materialization_data.materialization
            counts = (made.metadata[key] for key in _ROW_COUNTS if key in made.metadata)
            if (count := next(counts, None)) is not None:
                # All partitions in a range report the same metadata, so the first partition is enough.
                of_step = self._rows.setdefault(step, {})
                of_step.setdefault(made.asset_key.path[-1], int(str(count.value)))
        elif kind == DagsterEventType.STEP_START:
            self._began = time.monotonic()
            self.update(self._steps, description=escape(step))
        elif kind in _ENDINGS:
            rows = {name: sum(of_step.values()) for name, of_step in self._rows.items()}
            self.update(self._steps, advance=1, rows=sum(rows.values()))
            if self.disable:
                [task] = self.tasks
                written = f"  {rows[step]:,} rows" if step in rows else ""
                seconds = time.monotonic() - self._began
                done = f"[{task.completed:>2}/{task.total}] {step}{written}  {seconds:.1f} s"
                print_line(self.console, done + _ENDINGS[kind])
