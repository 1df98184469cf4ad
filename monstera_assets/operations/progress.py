"""Progress of a run: a bar on a terminal, plain lines anywhere else."""

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

_ENDINGS = {
    DagsterEventType.STEP_SUCCESS: "",
    DagsterEventType.STEP_FAILURE: "  FAILED",
    DagsterEventType.STEP_SKIPPED: "  skipped",
}
_ROW_COUNTS = ("dagster/row_count", "dagster/partition_row_count", "rows_written")


class RunProgress(Progress):
    """Shows steps done, the current table and rows written; a listener of `run_range`."""

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
        """Take note of an event of the run."""
        kind = event.event_type
        if kind == DagsterEventType.ASSET_MATERIALIZATION:
            self._materialized(event)
        elif kind == DagsterEventType.STEP_START:
            self._began = time.monotonic()
            self.update(self._steps, description=escape(step_name(event)))
        elif kind in _ENDINGS:
            self._finished(event)

    def _materialized(self, event: DagsterEvent) -> None:
        # Of a range every partition reports, with the same metadata: the first one will do.
        name = event.step_materialization_data.materialization.asset_key.path[-1]
        of_step = self._rows.setdefault(step_name(event), {})
        if name in of_step:
            return
        metadata = event.step_materialization_data.materialization.metadata
        for key in _ROW_COUNTS:
            if key in metadata:
                of_step[name] = int(str(metadata[key].value))
                return

    def _finished(self, event: DagsterEvent) -> None:
        name = step_name(event)
        rows_so_far = sum(sum(of_step.values()) for of_step in self._rows.values())
        self.update(self._steps, advance=1, rows=rows_so_far)
        if not self.disable:
            return
        [task] = self.tasks
        rows = f"  {sum(self._rows[name].values()):,} rows" if self._rows.get(name) else ""
        seconds = time.monotonic() - self._began
        line = (
            f"[{task.completed:>2}/{task.total}] {name}{rows}  {seconds:.1f} s"
            f"{_ENDINGS[event.event_type]}"
        )
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)
