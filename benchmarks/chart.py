"""Draw the chart in docs/reference/benchmarks.md: the ratio of each stage to its reference, by size.

    python -m benchmarks.chart FOLDER IMAGE

FOLDER is the benchmark folder, with one results subfolder per size. IMAGE is the SVG file to write.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from xml.sax.saxutils import escape

SHORT = {
    "load_events, validation and ledger included": "load of events",
    "the three state histories": "state histories",
    "whole graph, all days, checks included": "whole graph with checks",
    "the last day after 365 days": "day after 365 days / after 60",
}
_LABELS, _PLOT, _STEP = 270, 420, 24
"""Widths of the labels and the plot, and height of a bar including its gap, in pixels."""


def chart(folder: Path) -> str:
    """Return the chart as SVG: bars for the measured ratios, and marks at their limits."""
    rows = [
        (f"{SHORT[what]}, {size}", row["ratio"], row["at_most"])
        for what in SHORT
        for size in "SML"
        if (folder / size / "results.json").exists()
        for row in json.loads((folder / size / "results.json").read_text(encoding="utf-8"))
        if row["what"] == what
    ]
    most = max(max(ratio, at_most) for _, ratio, at_most in rows)
    marks = []
    for number, (label, ratio, at_most) in enumerate(rows):
        y = number * _STEP
        width, bound = (_PLOT * value / most for value in (ratio, at_most))
        marks.append(
            f'<text x="{_LABELS - 6}" y="{y + 16}" text-anchor="end">{escape(label)}</text>'
            f'<rect x="{_LABELS}" y="{y + 6}" width="{width:.1f}" height="13" fill="#2f6f8f"/>'
            f'<rect x="{_LABELS + bound - 1:.1f}" y="{y + 3}" width="2" height="18" fill="#b3261e"/>'
            f'<text x="{_LABELS + width + 5:.1f}" y="{y + 16}">{ratio:.1f}</text>'
        )
    height = _STEP * (len(rows) + 1)
    title = "ratio to the reference: plain DuckDB in the same run"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LABELS + _PLOT + 40}" height="{height}"'
        ' font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
        f'{"".join(marks)}<text x="{_LABELS}" y="{height - 8}">{title}</text></svg>'
    )


def main() -> None:
    """Parse the arguments and write the chart."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("image", type=Path)
    asked = parser.parse_args()
    asked.image.write_text(chart(asked.folder), encoding="utf-8")


if __name__ == "__main__":
    main()
