"""Report from Spark's event log how even the tasks of its large stages are.

For each stage that reads more than `--rows` rows, the report shows the share of the task that reads the
most. Spark writes one file if `spark.eventLog.enabled` is true, and `spark.eventLog.compress` and
`spark.eventLog.rolling.enabled` are false.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    """A stage of a Spark job.

    Attributes:
        name: where in Spark's code the stage comes from.
        rows: the number of rows that each task reads from files and from other stages.
    """

    name: str = ""
    rows: list[int] = field(default_factory=list)

    @property
    def largest_share(self) -> float:
        """The share of the rows that one task reads."""
        return max(self.rows) / sum(self.rows)


def stages(lines: Iterable[str]) -> dict[tuple[int, int], Stage]:
    """Return the stages in an event log, by their number and attempt. Failed tasks do not count."""
    found: dict[tuple[int, int], Stage] = defaultdict(Stage)
    for line in lines:
        event = json.loads(line)
        if event["Event"] == "SparkListenerStageCompleted":
            of_stage = event["Stage Info"]
            key = of_stage["Stage ID"], of_stage["Stage Attempt ID"]
            found[key].name = of_stage["Stage Name"]
        elif (
            event["Event"] == "SparkListenerTaskEnd"
            and event["Task End Reason"]["Reason"] == "Success"
        ):
            read = event["Task Metrics"]
            found[event["Stage ID"], event["Stage Attempt ID"]].rows.append(
                read["Input Metrics"]["Records Read"]
                + read["Shuffle Read Metrics"]["Total Records Read"]
            )
    return dict(found)


def report(lines: Iterable[str], at_least: int) -> Iterator[str]:
    """Yield a line for each stage that reads more rows, from the most uneven to the most even."""
    large = [(key, stage) for key, stage in stages(lines).items() if sum(stage.rows) > at_least]
    yield f"{len(large)} stages read more than {at_least:,} rows"
    for (number, attempt), stage in sorted(large, key=lambda item: -item[1].largest_share):
        yield (
            f"stage {number}.{attempt}: {sum(stage.rows):,} rows, {len(stage.rows)} tasks, the"
            f" largest reads {stage.largest_share:.1%} ({stage.name})"
        )


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with arguments.log.open(encoding="utf-8") as lines:
        print("\n".join(report(lines, arguments.rows)))


if __name__ == "__main__":
    main()
