"""Chart specifications: Vega-Lite, and Vega for flows, which Vega-Lite cannot draw.

A specification refers to fields by name and contains no data, width or theme. The page's script adds
them, and replaces a height of `step` pixels per value of the field `of`. Colors are variables in the
style sheet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from monstera_assets.dashboards.design import DECLINING, MUTED, PRIMARY, RISING, SECONDARY
from monstera_assets.dashboards.model import DAY, Field

Spec = dict[str, Any]

_DATA = {"name": "rows"}


def var(color: str) -> str:
    """Return the reference to a color in the style sheet."""
    return f"var(--{color})"


BRUSH = {"name": "brush", "select": {"type": "interval", "encodings": ["x"]}}
"""Dragging over a chart's days sets the page's date range."""


def lines(
    x: Field, y: Field, colors: Mapping[str, str], *, dots: bool = False, most: float | None = None
) -> Spec:
    """Draw one line per series. Days without a value are gaps, and values above `most` are cut off."""
    base = {
        "x": _along(x),
        "y": {**_up(y), **({} if most is None else {"scale": {"domainMax": most}})},
        "color": _color("series", colors),
        "strokeDash": _dashes(colors),
    }
    near = {"name": "near", "select": _hover(x)}
    return {
        "data": _DATA,
        "layer": [
            {
                "mark": {
                    "type": "line",
                    "point": dots,
                    "clip": most is not None,
                    "invalid": "break-paths-show-domains",
                },
                "encoding": base,
                **({"params": [BRUSH]} if x.format == DAY else {}),
            },
            {
                "mark": {
                    "type": "point",
                    "filled": True,
                    "size": 45,
                    "clip": most is not None,
                    "tooltip": {"expr": _nearest([x, Field("series", "Line"), y])},
                },
                "encoding": {
                    **{channel: base[channel] for channel in ("x", "y", "color")},
                    "opacity": {
                        "condition": {"param": "near", "empty": False, "value": 1},
                        "value": 0,
                    },
                },
                "params": [near],
            },
        ],
    }


def columns(x: Field, y: Field, colors: Mapping[str, str]) -> Spec:
    """Draw stacked columns over days, with negative values below zero."""
    axis = {
        "title": None,
        "format": "%-d %b %y",
        "labelAngle": 0,
        "labelOverlap": "greedy",
        "labelBound": True,
    }
    return {
        "data": _DATA,
        "mark": {"type": "bar", "width": {"band": 0.85}},
        "encoding": {
            "x": {
                "field": x.name,
                "type": "ordinal",
                "timeUnit": "utcyearmonthdate",
                "axis": {**axis, "labelSeparation": 14, "ticks": False},
            },
            "y": _up(y),
            "color": _color("series", colors),
            "order": {"field": "series", "sort": "ascending"},
            "tooltip": tooltip([x, Field("series", "Part"), y]),
        },
        "params": [BRUSH],
    }


def areas(x: Field, y: Field, colors: Mapping[str, str], *, share: bool = False) -> Spec:
    """Draw stacked areas, whose upper edge is the total."""
    order = f"indexof({json.dumps(list(colors))}, datum.series)"
    return {
        "data": _DATA,
        "transform": [{"calculate": order, "as": "place"}],
        "mark": {"type": "area", "strokeWidth": 0.5, "line": False},
        "encoding": {
            "x": _along(x),
            "y": {**_up(y), "stack": "normalize" if share else "zero"},
            "color": _color("series", colors),
            "order": {"field": "place"},
            "tooltip": tooltip([x, Field("series", "Part"), y]),
        },
        "params": [BRUSH],
    }


def bars(name: Field, value: Field, *, color: str = PRIMARY, total: bool = False) -> Spec:
    """Draw one horizontal bar per category, in the order of the rows, with its value.

    If `total` is set, a category's rows are added up.
    """
    sum_up = {"aggregate": "sum"} if total else {}
    base = _categories(name, value)
    base["x"] |= sum_up
    base["tooltip"] = [tooltip([name])[0], {**tooltip([value])[0], **sum_up}]
    label = {"field": value.name, "type": "quantitative", "format": value.format, **sum_up}
    return {
        "data": _DATA,
        "height": {"step": 26, "of": name.name},
        "layer": [
            {"mark": {"type": "bar", "color": var(color), "height": 12}, "encoding": base},
            {
                "mark": {"type": "text", "align": "left", "dx": 5},
                "encoding": {**base, "text": label},
            },
        ],
    }


def grouped_bars(
    name: Field, value: Field, colors: Mapping[str, str], *, stacked: bool = False
) -> Spec:
    """Draw a group of horizontal bars per category, one bar per series, or one stacked bar."""
    base = _categories(name, value)
    order = {"sort": list(colors), "scale": {"paddingInner": 0.12}}
    apart = {"yOffset": {"field": "series", **order}}
    summed = {"aggregate": "sum", "stack": None}
    label = {"field": value.name, "type": "quantitative", "format": value.format}
    return {
        "data": _DATA,
        "height": {"step": 26 if stacked else 14 * len(colors) + 8, "of": name.name},
        "layer": [
            {
                "mark": {"type": "bar", **({"height": 12} if stacked else {})},
                "encoding": {
                    **base,
                    **({} if stacked else apart),
                    "color": _color("series", colors),
                    "tooltip": tooltip([name, Field("series", "Part"), value]),
                },
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 5, "fontSize": 10},
                "encoding": {
                    **base,
                    **({"x": {**base["x"], **summed}} if stacked else apart),
                    "text": {**label, "aggregate": "sum"} if stacked else label,
                },
            },
        ],
    }


def heatmap(
    x: Field,
    y: Field,
    value: Field,
    *,
    middle: float | None = None,
    most: float | None = None,
    shade: Field | None = None,
    label: str = "",
    faint: str = "",
    order: Sequence[str] = (),
) -> Spec:
    """Draw a matrix whose cells are shaded by value and labeled.

    Args:
        x: the columns.
        y: the rows.
        value: the value in each cell.
        middle: the value below and above which the colors differ, such as 1 for a lift, if any.
        most: the value with the darkest color. By default, it is the highest value.
        shade: the field that is shaded, if it is not `value`.
        label: the expression for a cell's text. By default, it is the formatted value.
        faint: the expression that is true for cells whose color is faint, if any.
        order: the order of the columns. By default, it is that of the data.
    """
    shown = [y, x, value, *([shade] if shade else [])]
    text: Spec = {
        "field": value.name,
        "type": "quantitative",
        "format": value.format.replace(".1%", ".0%"),
    }
    if label:
        text = {"field": "label", "type": "nominal"}
    scale: Spec = {"range": [var("surface"), var("shade")], "domainMin": 0, "interpolate": "rgb"}
    if middle is not None:
        scale = {
            "range": [var("shade-below"), var("surface"), var("shade")],
            "domainMid": middle,
            "domainMin": 0,
            "interpolate": "rgb",
        }
    if most is not None:
        scale["domainMax"] = most
    axis = {"title": None, "domain": False, "ticks": False, "labelLimit": 150}
    # The space for labels is measured once, so that their angle cannot depend on the width.
    turned = {"labelAngle": -90, "labelAlign": "left"}
    base = {
        "x": {
            "field": x.name,
            "type": "ordinal",
            "sort": [*order] or None,
            "axis": {
                **axis,
                "orient": "top",
                "title": x.title,
                **({"labelAngle": 0, "labelOverlap": True} if x.format else turned),
            },
        },
        "y": {"field": y.name, "type": "ordinal", "sort": None, "axis": axis},
        "tooltip": tooltip(shown),
    }
    return {
        "data": _DATA,
        **({"transform": [{"calculate": label, "as": "label"}]} if label else {}),
        "height": {"step": 24, "of": y.name},
        "layer": [
            {
                "mark": {"type": "rect", "cornerRadius": 2, "stroke": var("surface")},
                "encoding": {
                    **base,
                    "color": {
                        "field": (shade or value).name,
                        "type": "quantitative",
                        "scale": scale,
                        "legend": None,
                    },
                    **({"opacity": {"condition": {"test": faint, "value": 0.3}}} if faint else {}),
                },
            },
            {
                "mark": {
                    "type": "text",
                    "fontSize": 10,
                    "opacity": {"expr": "bandwidth('x') < 27 ? 0 : 1"},
                },
                "encoding": {
                    **base,
                    "text": text,
                },
            },
        ],
    }


def waterfall(step: Field, amount: Field, totals: Sequence[str]) -> Spec:
    """Draw amounts that lead from the first total to the last one.

    `totals` are the names of the first and the last step. All other steps are changes.
    """
    opening, closing = totals
    rule = {"color": var(MUTED), "strokeDash": [2, 2]}
    base = {
        "x": {
            "field": step.name,
            "type": "ordinal",
            "sort": None,
            "axis": {
                "title": None,
                "labelOverlap": False,
                "labelAngle": {"expr": "width < 430 ? -90 : 0"},
                "labelAlign": {"expr": "width < 430 ? 'right' : 'center'"},
            },
        },
        "tooltip": tooltip([step, amount]),
    }
    kind = {
        "condition": [
            {"test": f"indexof({[*totals]!r}, datum.{step.name}) >= 0", "value": var(SECONDARY)},
            {"test": f"datum.{amount.name} < 0", "value": var(DECLINING)},
        ],
        "value": var(RISING),
    }
    return {
        "data": _DATA,
        "transform": [
            {
                "calculate": f"datum.{step.name} === {closing!r} ? 0 : datum.{amount.name}",
                "as": "change",
            },
            {"window": [{"op": "sum", "field": "change", "as": "after"}]},
            {
                "calculate": f"datum.{step.name} === {opening!r} || datum.{step.name} === {closing!r}"
                " ? 0 : datum.after - datum.change",
                "as": "before",
            },
            {
                "calculate": "datum.before < datum.after ? datum.after : datum.before",
                "as": "top",
            },
        ],
        "layer": [
            {
                "mark": {"type": "bar", "width": {"band": 0.7}},
                "encoding": {
                    **base,
                    "y": {**_up(Field("before", "", amount.format))},
                    "y2": {"field": "after"},
                    "color": kind,
                },
            },
            {
                "mark": {"type": "text", "dy": -7, "fontSize": 11},
                "encoding": {
                    **base,
                    "y": {"field": "top", "type": "quantitative"},
                    "text": {"field": amount.name, "type": "quantitative", "format": ",.0f"},
                },
            },
            {"mark": {"type": "rule", **rule}, "encoding": {"y": {"datum": 0}}},
        ],
    }


def points(x: Field, y: Field, size: Field, colors: Mapping[str, str], most: float) -> Spec:
    """Draw points and the diagonal on which both values are equal."""
    axis = {"grid": True, "format": x.format.replace(".1%", ".0%")}
    scale = {"domain": [0, most]}
    return {
        "data": _DATA,
        "layer": [
            {
                "data": {"values": [{"from": 0, "to": most}]},
                "mark": {"type": "rule", "color": var(MUTED), "strokeDash": [4, 4]},
                "encoding": {
                    "x": {"field": "from", "type": "quantitative"},
                    "x2": {"field": "to"},
                    "y": {"field": "from", "type": "quantitative"},
                    "y2": {"field": "to"},
                },
            },
            {
                "mark": {"type": "line", "point": {"size": 50, "filled": True}, "strokeWidth": 1.5},
                "encoding": {
                    "x": {
                        "field": x.name,
                        "type": "quantitative",
                        "scale": scale,
                        "axis": {**axis, "title": x.title},
                    },
                    "y": {
                        "field": y.name,
                        "type": "quantitative",
                        "scale": scale,
                        "axis": {**axis, "title": y.title},
                    },
                    "color": _color("series", colors),
                    "order": {"field": x.name},
                    "tooltip": tooltip([Field("series", "Model"), x, y, size]),
                },
            },
        ],
    }


def timeline(lane: Field, start: Field, end: Field, what: Field, colors: Mapping[str, str]) -> Spec:
    """Draw intervals of days, which include their last day, as bars, with one row per lane."""
    return {
        "data": _DATA,
        "height": {"step": 26, "of": lane.name},
        "transform": [{"calculate": f"datum.{end.name} + 864e5", "as": "after"}],
        "mark": {"type": "bar", "height": 16},
        "encoding": {
            "y": {
                "field": lane.name,
                "type": "nominal",
                "sort": None,
                "axis": {"title": None, "domain": False, "ticks": False, "labelLimit": 150},
            },
            "x": _along(start),
            "x2": {"field": "after"},
            "color": _color(what.name, colors),
            "tooltip": tooltip([lane, what, start, end]),
        },
    }


def flagged(x: Field, y: Field, expected: Sequence[Field]) -> Spec:
    """Draw a line, and the expected value and range of the days on which it left that range.

    `expected` are the fields with the expected value and the range's ends, null on all other days.
    """
    middle, low, high = expected
    up = {**_up(y), "scale": {"zero": False}}
    shared = {"x": _along(x), "tooltip": tooltip([x, y, *expected])}
    known = {"filter": f"isValid(datum.{middle.name})"}
    band = {"y": {"field": low.name, "type": "quantitative"}, "y2": {"field": high.name}}
    return {
        "data": _DATA,
        "layer": [
            {
                "mark": {
                    "type": "line",
                    "color": var(PRIMARY),
                    "invalid": "break-paths-show-domains",
                },
                "encoding": {"x": shared["x"], "y": up},
                "params": [BRUSH],
            },
            {
                "transform": [known],
                "mark": {"type": "rule", "color": var(SECONDARY), "strokeWidth": 6},
                "encoding": {**shared, **band},
            },
            {
                "transform": [known],
                "mark": {"type": "tick", "orient": "horizontal", "color": var("ink"), "size": 14},
                "encoding": {**shared, "y": {"field": middle.name, "type": "quantitative"}},
            },
            {
                "transform": [known],
                "mark": {"type": "circle", "size": 70, "color": var(DECLINING), "opacity": 1},
                "encoding": {**shared, "y": up},
            },
        ],
    }


def flows(source: Field, target: Field, amount: Field, colors: Mapping[str, str]) -> Spec:
    """Draw a Sankey diagram (in Vega): flows from the nodes on the left to those on the right.

    Flows with the same source and target are added up.
    """
    color_scale = {
        "name": "color",
        "type": "ordinal",
        "domain": list(colors),
        "range": [var(color) for color in colors.values()],
    }

    def nodes(side: str, own: str) -> list[Spec]:
        """Return the transforms that place the nodes of one side."""
        return [
            {
                "type": "aggregate",
                "groupby": [own],
                "fields": ["amount"],
                "ops": ["sum"],
                "as": ["amount"],
            },
            {
                "type": "formula",
                "expr": f"indexof({json.dumps(list(colors))}, datum.{own})",
                "as": "place",
            },
            {"type": "collect", "sort": {"field": "place"}},
            {"type": "stack", "field": "amount", "as": ["low", "high"]},
            {"type": "window", "ops": ["rank"], "as": ["rank"]},
            {"type": "formula", "expr": f"'{side}'", "as": "side"},
            {"type": "formula", "expr": f"datum.{own}", "as": "state"},
        ]

    def placed(side: str, own: str, other: str) -> list[Spec]:
        """Return the transforms that place the ends of the flows on one side."""
        return [
            {
                "type": "stack",
                "groupby": [own],
                "sort": {"field": f"{other}_place"},
                "field": "amount",
                "as": [f"{side}_in_low", f"{side}_in_high"],
            },
            {
                "type": "lookup",
                "from": f"{side}_nodes",
                "key": own,
                "fields": [own],
                "values": ["low", "rank"],
                "as": [f"{side}_low", f"{side}_rank"],
            },
            {
                "type": "formula",
                "as": f"{side}_y",
                "expr": f"scale('y', datum.{side}_low + (datum.{side}_in_low + datum.{side}_in_high)"
                f" / 2) + (datum.{side}_rank - 1) * gap",
            },
        ]

    def bars_of(side: str, title: str, x: str, width: str, align: str, dx: int) -> list[Spec]:
        top = "scale('y', datum.low) + (datum.rank - 1) * gap"
        middle = "scale('y', (datum.low + datum.high) / 2) + (datum.rank - 1) * gap"
        return [
            {
                "type": "rect",
                "from": {"data": f"{side}_nodes"},
                "encode": {
                    "update": {
                        "x": {"signal": x},
                        "width": {"signal": width},
                        "y": {"signal": top},
                        "height": {"signal": "scale('y', datum.high) - scale('y', datum.low)"},
                        "fill": {"scale": "color", "field": "state"},
                        "tooltip": {
                            "signal": f"{{'{amount.title}': format(datum.amount, '{amount.format}'),"
                            f" '{title}': datum.state}}"
                        },
                    }
                },
            },
            {
                "type": "text",
                "from": {"data": f"{side}_nodes"},
                "encode": {
                    "update": {
                        "x": {"signal": x},
                        "dx": {"value": dx},
                        "y": {"signal": middle},
                        "align": {"value": align},
                        "limit": {"signal": "edge - 6"},
                        "fontSize": {"signal": "width < 420 ? 9 : 11"},
                        "baseline": {"value": "middle"},
                        "fill": {"value": var("ink")},
                        "text": {
                            "signal": f"datum.state + ' ' + format(datum.amount, '{amount.format}')"
                        },
                    }
                },
            },
        ]

    return {
        "$schema": "vega",
        "padding": 2,
        "signals": [
            {"name": "gap", "value": 14},
            {"name": "edge", "update": "min(150, width * 0.38)"},
            {
                "name": "gaps",
                "update": "max(data('left_nodes').length, data('right_nodes').length, 1)",
            },
        ],
        "data": [
            {
                "name": "rows",
            },
            {
                "name": "summed",
                "source": "rows",
                "transform": [
                    {
                        "type": "aggregate",
                        "groupby": [source.name, target.name],
                        "fields": [amount.name],
                        "ops": ["sum"],
                        "as": ["amount"],
                    },
                    {"type": "filter", "expr": "datum.amount > 0"},
                    *(
                        {
                            "type": "formula",
                            "expr": f"indexof({json.dumps(list(colors))}, datum.{one.name})",
                            "as": f"{one.name}_place",
                        }
                        for one in (source, target)
                    ),
                ],
            },
            {"name": "left_nodes", "source": "summed", "transform": nodes("left", source.name)},
            {"name": "right_nodes", "source": "summed", "transform": nodes("right", target.name)},
            {
                "name": "flows",
                "source": "summed",
                "transform": [
                    *placed("left", source.name, target.name),
                    *placed("right", target.name, source.name),
                    {
                        "type": "linkpath",
                        "orient": "horizontal",
                        "shape": "diagonal",
                        "sourceX": {"expr": "edge + 8"},
                        "sourceY": {"expr": "datum.left_y"},
                        "targetX": {"expr": "width - edge - 8"},
                        "targetY": {"expr": "datum.right_y"},
                    },
                ],
            },
            {
                "name": "whole",
                "source": "left_nodes",
                "transform": [
                    {"type": "aggregate", "fields": ["amount"], "ops": ["sum"], "as": ["amount"]}
                ],
            },
        ],
        "scales": [
            {
                "name": "y",
                "type": "linear",
                "domain": {"data": "whole", "field": "amount"},
                "domainMin": 0,
                "range": {"signal": "[0, max(height - (gaps - 1) * gap, 10)]"},
                "nice": False,
                "zero": True,
            },
            color_scale,
        ],
        "marks": [
            {
                "type": "path",
                "from": {"data": "flows"},
                "encode": {
                    "update": {
                        "path": {"field": "path"},
                        "stroke": {"scale": "color", "field": source.name},
                        "strokeOpacity": {"value": 0.4},
                        "strokeWidth": {
                            "signal": "max(scale('y', datum.amount) - scale('y', 0), 1)"
                        },
                        "tooltip": {
                            "signal": f"{{'From': datum.{source.name}, 'To': datum.{target.name},"
                            f" '{amount.title}': format(datum.amount, '{amount.format}')}}"
                        },
                    },
                    "hover": {"strokeOpacity": {"value": 0.75}},
                },
            },
            *bars_of("left", source.title, "edge", "8", "right", -6),
            *bars_of("right", target.title, "width - edge - 8", "8", "left", 14),
        ],
    }


def tooltip(fields: Sequence[Field]) -> list[Spec]:
    """Return the tooltip that shows the given fields."""
    return [
        {
            "field": one.name,
            "title": one.title,
            # Formats of time units in UTC do not depend on the reader's time zone.
            **(
                {"type": "temporal", "timeUnit": "utcyearmonthdate", "format": "%-d %b %Y"}
                if one.format == DAY
                else {"type": "quantitative", "format": one.format}
                if one.format
                else {"type": "nominal"}
            ),
        }
        for one in fields
    ]


def _nearest(fields: Sequence[Field]) -> str:
    """Return the tooltip of the nearest point, whose row is nested in the area around the point.

    Vega-Lite's own tooltips show the text fields of nearest points as undefined.
    """
    row = "(datum.datum || datum)"
    shown = (
        f"utcFormat({row}.{one.name}, '%-d %b %Y')"
        if one.format == DAY
        else f"format({row}.{one.name}, '{one.format}')"
        if one.format
        else f"{row}.{one.name}"
        for one in fields
    )
    titles = (json.dumps(one.title) for one in fields)
    return f"{{{', '.join(f'{title}: {text}' for title, text in zip(titles, shown, strict=True))}}}"


def _categories(name: Field, value: Field) -> Spec:
    """Place categories below each other and their values to the right, with space for a label."""
    return {
        "y": {
            "field": name.name,
            "type": "nominal",
            "sort": None,
            "axis": {"title": None, "labelLimit": 170, "domain": False, "ticks": False},
        },
        "x": {
            "field": value.name,
            "type": "quantitative",
            "axis": None,
            "scale": {"nice": False, "padding": 0, "range": [0, {"expr": "width - 62"}]},
        },
    }


def _along(x: Field) -> Spec:
    if x.format == DAY:
        return {
            "field": x.name,
            "type": "temporal",
            "scale": {"type": "utc"},
            "axis": {
                "title": None,
                "grid": False,
                "tickCount": {"expr": "ceil(width / 100)"},
                "labelOverlap": "greedy",
                "labelSeparation": 6,
            },
        }
    axis = {"title": x.title, "grid": False, "tickMinStep": 1, "format": "d"}
    return {"field": x.name, "type": "quantitative", "axis": axis, "scale": {"nice": False}}


def _up(y: Field) -> Spec:
    compact = {",d": "~s", ",.2f": "~s", ".1%": ".0%", "+.1%": "+.0%"}
    axis: Spec = {"title": None, "format": compact.get(y.format, y.format), "tickCount": 4}
    if y.format == ",d":
        axis["tickMinStep"] = 1
    return {"field": y.name, "type": "quantitative", "axis": axis}


def _hover(x: Field) -> Spec:
    return {
        "type": "point",
        "nearest": True,
        "on": "pointermove",
        "clear": "pointerout",
        "fields": [x.name, "series"],
    }


def _color(field: str, colors: Mapping[str, str]) -> Spec:
    scale = {"domain": list(colors), "range": [var(color) for color in colors.values()]}
    return {"field": field, "type": "nominal", "scale": scale, "legend": None}


def _dashes(colors: Mapping[str, str]) -> Spec:
    """Distinguish the first lines by their dashes too, for readers who see no difference in color."""
    dashes = [[1, 0], [6, 3], [2, 2], [8, 2, 2, 2]]
    return {
        "field": "series",
        "type": "nominal",
        "scale": {
            "domain": list(colors),
            "range": [dashes[n % len(dashes)] for n in range(len(colors))],
        },
        "legend": None,
    }
