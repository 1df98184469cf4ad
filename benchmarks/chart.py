"""The chart of docs/benchmarks.md: how many times its reference each stage takes, by size.

    python -m benchmarks.chart FOLDER IMAGE

FOLDER is that of the benchmark, with a folder of results for each size; IMAGE is an SVG to write.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import vl_convert

SHORT = {
    "load_events, validation and ledger included": "load of events",
    "the three state histories": "state histories",
    "whole graph, all days, checks included": "whole graph with checks",
    "the last day after 365 days": "a day after 365, to one after 60",
}


def chart(folder: Path) -> dict[str, Any]:
    """The chart as Vega-Lite: bars of the measured ratios, and ticks where they are to stay below."""
    rows = [
        {"stage": f"{SHORT[row['what']]}, {size}", "ratio": row["ratio"], "bound": row["at_most"]}
        for what in SHORT
        for size in "SML"
        if (folder / size / "results.json").exists()
        for row in json.loads((folder / size / "results.json").read_text(encoding="utf-8"))
        if row["what"] == what
    ]
    axis = {"ticks": False, "labelLimit": 260, "labelPadding": 6}
    y = {"field": "stage", "type": "nominal", "sort": None, "title": None, "axis": axis}
    title = "times the reference, which is plain DuckDB in the same run"
    x = {"field": "ratio", "type": "quantitative", "title": title}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "background": "white",
        "width": 420,
        "height": {"step": 24},
        "data": {"values": rows},
        "encoding": {"y": y},
        "layer": [
            {"mark": {"type": "bar", "color": "#2f6f8f", "height": 13}, "encoding": {"x": x}},
            {
                "mark": {"type": "tick", "color": "#b3261e", "thickness": 2, "size": 18},
                "encoding": {"x": {**x, "field": "bound"}},
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 5},
                "encoding": {"x": x, "text": {"field": "ratio", "format": ".1f"}},
            },
        ],
        "config": {
            "font": "sans-serif",
            "view": {"stroke": None},
            "axis": {"labelFontSize": 12, "titleFontWeight": "normal", "domain": False},
        },
    }


def main() -> None:
    """Read the arguments and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("image", type=Path)
    asked = parser.parse_args()
    asked.image.write_text(vl_convert.vegalite_to_svg(chart(asked.folder)), encoding="utf-8")


if __name__ == "__main__":
    main()
