"use strict";
/* The specification of each kind of chart: Vega-Lite, and Vega for flows, which Vega-Lite cannot draw.
   Each function receives the chart: `keys` are the fields without those that are chosen elsewhere,
   `value` is the last field, and `colors` maps series to variables in the style sheet. */
const charts = (() => {
  const style = () => getComputedStyle(document.documentElement);
  const css = (name) => style().getPropertyValue(`--${name}`).trim();
  const DAY = "%-d %b %Y", GAPS = "break-paths-show-domains",
    BARE = { domain: false, ticks: false };
  // Dragging over a chart's days sets the page's date range.
  const BRUSH = { name: "brush", select: { type: "interval", encodings: ["x"] } };
  const number = (field, more) => ({ field, type: "quantitative", ...more });
  const rounded = (format) => format.replace(".1%", ".0%");
  const ink = (colors) => Object.values(colors).map(css);

  // Formats of time units in UTC do not depend on the reader's time zone.
  const tooltip = (...fields) => fields.map(({ name: field, title, format }) => ({
    field, title, ...(format === "day"
      ? { type: "temporal", timeUnit: "utcyearmonthdate", format: DAY }
      : format ? { type: "quantitative", format } : { type: "nominal" }) }));
  // The nearest point's row is nested in the area around the point, and Vega-Lite's own tooltips show
  // the row's texts as undefined.
  const nearest = (...fields) => {
    const row = "(datum.datum || datum)";
    const text = ({ name, format }) => format === "day" ? `utcFormat(${row}.${name}, '${DAY}')`
      : format ? `format(${row}.${name}, '${format}')` : `${row}.${name}`;
    return `{${fields.map((one) => `${JSON.stringify(one.title)}: ${text(one)}`).join(", ")}}`;
  };
  const series = (title) => ({ name: "series", title, format: "" });
  const color = (field, colors) => ({
    field, type: "nominal", legend: null,
      scale: { domain: Object.keys(colors), range: ink(colors) } });
  const placed = (colors) => ({ as: "place",
    calculate: `indexof(${JSON.stringify(Object.keys(colors))}, datum.series)` });
  // The first lines differ in their dashes, too, for readers who see no difference in color.
  const dashes = (colors) => {
    const kinds = [[1, 0], [6, 3], [2, 2], [8, 2, 2, 2]], domain = Object.keys(colors);
    const range = domain.map((_, n) => kinds[n % kinds.length]);
    return { field: "series", type: "nominal", legend: null, scale: { domain, range } };
  };
  const labelExpr = "utcFormat(datum.value, utcdate(datum.value) > 1 ? '%-d %b' : utcmonth(datum.value) ? '%b' : '%Y')";
  const along = ({ name, title, format }) => format === "day"
    ? { field: name, type: "temporal", scale: { type: "utc" }, axis: { title: null, grid: false, labelExpr,
      tickCount: { expr: "ceil(width / 100)" }, labelOverlap: "greedy", labelSeparation: 6 } }
    : number(name, { scale: { nice: false },
      axis: { title, grid: false, tickMinStep: 1, format: "d" } });
  const up = ({ name, format }) => {
    const short = { ",d": "~s", ",.2f": "~s", ".1%": ".0%", "+.1%": "+.0%" }[format] ?? format;
    const tickMinStep = format === ",d" ? 1 : undefined;
    return number(name, { axis: { title: null, format: short, tickCount: 4, tickMinStep } });
  };
  // Categories are below each other, with their values to the right and space for a label.
  const categories = (name, value) => ({
    y: { field: name.name, type: "nominal", sort: null,
      axis: { title: null, labelLimit: 170, ...BARE } },
    x: number(value.name, {
      axis: null, scale: { nice: false, padding: 0, range: [0, { expr: "width - 62" }] } }),
  });
  const label = { type: "text", align: "left", dx: 5 };
  const steps = (step, { name }) => ({ step, of: name });

  return { css,
    /** One line per series. Days without a value are gaps, and values above `most` are clipped. */
    lines({ keys: [x], value: y, colors, dots = false, most }) {
      const clip = most !== undefined, scale = clip ? { domainMax: most } : undefined;
      const place = { x: along(x), y: { ...up(y), scale }, color: color("series", colors) };
      const select = { type: "point", nearest: true, on: "pointermove", clear: "pointerout",
        fields: [x.name, "series"] };
      const near = { condition: { param: "near", empty: false, value: 1 }, value: 0 };
      const expr = nearest(x, series("Line"), y);
      return { layer: [
        { mark: { type: "line", point: dots, clip, invalid: GAPS },
          encoding: { ...place, strokeDash: dashes(colors) },
          params: x.format === "day" ? [BRUSH] : undefined },
        { mark: { type: "point", filled: true, size: 45, clip, tooltip: { expr } },
          encoding: { ...place, opacity: near }, params: [{ name: "near", select }] },
      ] };
    },
    /** Stacked columns over days, with negative values below zero. */
    columns({ keys: [x], value: y, colors }) {
      const axis = { title: null, format: "%-d %b %y", labelAngle: 0, labelOverlap: "greedy",
        labelBound: true, labelSeparation: 14, ticks: false };
      return { transform: [placed(colors)],
        mark: { type: "bar", width: { band: 0.85 } }, params: [BRUSH], encoding: {
        x: { field: x.name, type: "ordinal", timeUnit: "utcyearmonthdate", axis }, y: up(y),
        color: color("series", colors), order: { field: "place" },
        tooltip: tooltip(x, series("Part"), y) } };
    },
    /** Stacked areas, whose upper edge is the total. */
    areas({ keys: [x], value: y, colors }) {
      return { transform: [placed(colors)], mark: { type: "area", strokeWidth: 0.5, line: false },
        params: [BRUSH], encoding: { x: along(x), y: { ...up(y), stack: "zero" },
          order: { field: "place" },
          color: color("series", colors), tooltip: tooltip(x, series("Part"), y) } };
    },
    /** One bar per category with its value. */
    bars({ keys: [name, value] }) {
      const base = { ...categories(name, value), tooltip: tooltip(name, value) };
      return { height: steps(26, name), layer: [
        { mark: { type: "bar", color: css("primary"), height: 12 }, encoding: base },
        { mark: label, encoding: { ...base, text: number(value.name, { format: value.format }) } },
      ] };
    },
    /** A group of bars per category, one bar per series. */
    grouped({ keys: [name], value, colors }) {
      const parts = Object.keys(colors), scale = { paddingInner: 0.12 };
      const base = { ...categories(name, value), yOffset: { field: "series", sort: parts, scale } };
      return { height: steps(14 * parts.length + 8, name), layer: [
        { mark: "bar", encoding: {
          ...base, color: color("series", colors), tooltip: tooltip(name, series("Part"), value) } },
        { mark: { ...label, fontSize: 10 }, encoding: {
          ...base, text: number(value.name, { format: value.format }) } },
      ] };
    },
    /** A matrix whose cells are shaded by the value, and labeled. Colors differ below and above
     *  `middle`, and `most` has the darkest one. Cells for which the expression `faint` is true have a
     *  faint color and an asterisk. The columns are in the given `order`. */
    heatmap({ keys: [y, x, ...more], value, middle, most, faint = "false", order = null }) {
      const range = [...(middle === undefined ? [] : ["shade-below"]), "surface", "shade"].map(css);
      const scale = { range, domainMid: middle, domainMin: 0, domainMax: most, interpolate: "rgb" };
      const axis = { title: null, ...BARE, labelLimit: 150 };
      // The space for labels is measured once, so that their angle cannot depend on the width.
      const turned = x.format ? { labelAngle: 0, labelOverlap: true }
        : { labelAngle: -90, labelAlign: "left" };
      const base = { tooltip: tooltip(y, x, ...more),
        x: { field: x.name, type: "ordinal", sort: order,
          axis: { ...axis, orient: "top", title: x.title, ...turned } },
        y: { field: y.name, type: "ordinal", sort: null, axis } };
      const opacity = { condition: { test: faint, value: 0.3 }, value: 1 };
      const calculate = `format(datum.${value.name}, '${rounded(value.format)}') + (${faint} ? ' *' : '')`;
      const text = { field: "label", type: "nominal" };
      return { transform: [{ calculate, as: "label" }], height: steps(24, y), layer: [
        { mark: { type: "rect", cornerRadius: 2, stroke: css("surface") }, encoding: {
          ...base, color: number(value.name, { scale, legend: null }), opacity } },
        { mark: { type: "text", fontSize: 10, opacity: { expr: "bandwidth('x') < 27 ? 0 : 1" } },
          encoding: { ...base, text } },
      ] };
    },
    /** Changes that lead from the opening to the closing amount. */
    waterfall({ keys: [step, amount], colors }) {
      const is = (name) => `datum.${step.name} === '${name}'`, change = `datum.${amount.name}`;
      const axis = { title: null, labelOverlap: false,
        labelAngle: { expr: "width < 430 ? -90 : 0" },
        labelAlign: { expr: "width < 430 ? 'right' : 'center'" } };
      const base = { tooltip: tooltip(step, amount),
        x: { field: step.name, type: "ordinal", sort: null, axis } };
      const kind = color(step.name, { Opening: "secondary", ...colors, Closing: "secondary" });
      return { transform: [
        { calculate: `${is("Closing")} ? 0 : ${change}`, as: "change" },
        { window: [{ op: "sum", field: "change", as: "after" }] },
        { calculate: `${is("Opening")} || ${is("Closing")} ? 0 : datum.after - datum.change`,
          as: "before" },
        { calculate: "datum.before < datum.after ? datum.after : datum.before", as: "top" },
      ], layer: [
        { mark: { type: "bar", width: { band: 0.7 } }, encoding: { ...base, color: kind,
          y: up({ ...amount, name: "before" }), y2: { field: "after" } } },
        { mark: { type: "text", dy: -7, text: { expr: `format(${change}, width < 430 ? '.3~s' : ',.0f')` } },
          encoding: { ...base, y: number("top") } },
        { mark: { type: "rule", color: css("muted"), strokeDash: [2, 2] },
          encoding: { y: { datum: 0 } } },
      ] };
    },
    /** Points, and the diagonal on which both values are equal, up to `most`. */
    points({ keys, colors, most }) {
      const [model, , size, x, y] = keys;
      const axis = (one) => number(one.name, { scale: { domain: [0, most] },
        axis: { grid: true, format: rounded(one.format), title: one.title } });
      const diagonal = { x: number("from"), x2: { field: "to" }, y: number("from"),
        y2: { field: "to" } };
      return { layer: [
        { data: { values: [{ from: 0, to: most }] }, encoding: diagonal,
          mark: { type: "rule", color: css("muted"), strokeDash: [4, 4] } },
        { mark: { type: "line", point: { size: 50, filled: true }, strokeWidth: 1.5 }, encoding: {
          x: axis(x), y: axis(y), color: color(model.name, colors), order: { field: x.name },
          tooltip: tooltip({ ...model, title: "Model" }, x, y, size) } },
      ] };
    },
    /** Intervals of days, which include their last day, with one row per lane. */
    timeline({ keys: [lane, start, end, what], colors }) {
      const axis = { title: null, ...BARE, labelLimit: 150 };
      return { height: steps(26, lane), mark: { type: "bar", height: 16 },
        transform: [{ calculate: `datum.${end.name} + 864e5`, as: "after" }],
        encoding: { y: { field: lane.name, type: "nominal", sort: null, axis }, x: along(start),
          x2: { field: "after" }, color: color(what.name, colors),
            tooltip: tooltip(lane, what, start, end) } };
    },
    /** A line, and the expected value and range of the days on which it left that range. */
    flagged({ keys: [x, middle, low, high], value: y }) {
      const known = [{ filter: `isValid(datum.${middle.name})` }],
        top = { ...up(y), scale: { zero: false } };
      const base = { x: along(x), tooltip: tooltip(x, y, middle, low, high) };
      const flag = (mark, place) => ({ transform: known, mark, encoding: { ...base, ...place } });
      return { layer: [
        { mark: { type: "line", color: css("primary"), invalid: GAPS },
          encoding: { x: base.x, y: top }, params: [BRUSH] },
        flag({ type: "rule", color: css("secondary"), strokeWidth: 6 },
          { y: number(low.name), y2: { field: high.name } }),
        flag({ type: "tick", orient: "horizontal", color: css("ink"), size: 14 },
          { y: number(middle.name) }),
        flag({ type: "circle", size: 70, color: css("declining"), opacity: 1 }, { y: top }),
      ] };
    },
    /** A Sankey diagram: flows from the nodes on the left to the right, each the sum of its rows. */
    flows({ keys, colors }) {
      const [source, target, amount] = keys.slice(-3), names = Object.keys(colors);
      const place = (field) => `indexof(${JSON.stringify(names)}, datum.${field})`;
      const sum = (field, ...groupby) => ({ type: "aggregate", groupby, fields: [field],
        ops: ["sum"], as: ["amount"] });
      const formula = (as, expr) => ({ type: "formula", as, expr });
      const shown = `format(datum.amount, '${amount.format}')`, gaps = "(datum.rank - 1) * gap";
      const at = (place) => ({ signal: `scale('y', ${place}) + ${gaps}` });
      const nodes = (name, own) => ({ name, source: "summed", transform: [
        sum("amount", own), formula("place", place(own)),
          { type: "collect", sort: { field: "place" } },
        { type: "stack", field: "amount", as: ["low", "high"] },
          { type: "window", ops: ["rank"], as: ["rank"] },
        formula("state", `datum.${own}`)] });
      const ends = (side, own, other) => [
        { type: "stack", groupby: [own], sort: { field: `${other}_place` }, field: "amount",
          as: [`${side}_from`, `${side}_to`] },
        { type: "lookup", from: side, key: own, fields: [own], values: ["low", "rank"],
          as: [`${side}_low`, `${side}_rank`] },
        formula(`${side}_y`, `scale('y', datum.${side}_low + (datum.${side}_from + datum.${side}_to) / 2)`
          + ` + (datum.${side}_rank - 1) * gap`)];
      const marks = (side, title, x, width, align, dx) => [
        { type: "rect", from: { data: side }, encode: { update: {
          x: { signal: x }, width: { signal: width }, y: at("datum.low"),
          height: { signal: "scale('y', datum.high) - scale('y', datum.low)" },
          fill: { scale: "color", field: "state" },
          tooltip: { signal: `{'${amount.title}': ${shown}, '${title}': datum.state}` } } } },
        { type: "text", from: { data: side }, encode: { update: {
          x: { signal: x }, dx: { value: dx }, y: at("(datum.low + datum.high) / 2"),
            align: { value: align },
          limit: { signal: "edge - 6" }, fontSize: { signal: "width < 420 ? 9 : 11" },
          baseline: { value: "middle" }, fill: { value: css("ink") },
          text: { signal: `datum.state + ' ' + ${shown}` } } } }];
      const flow = { type: "path", from: { data: "flows" },
        encode: { hover: { strokeOpacity: { value: 0.75 } }, update: {
        path: { field: "path" }, stroke: { scale: "color", field: source.name },
          strokeOpacity: { value: 0.4 },
        strokeWidth: { signal: "max(scale('y', datum.amount) - scale('y', 0), 1)" },
        tooltip: { signal: `{'From': datum.${source.name}, 'To': datum.${target.name}, '${amount.title}': ${shown}}` } } } };
      const path = { type: "linkpath", orient: "horizontal", shape: "diagonal",
        sourceX: { expr: "edge + 8" },
        sourceY: { expr: "datum.left_y" }, targetX: { expr: "width - edge - 8" },
          targetY: { expr: "datum.right_y" } };
      return {
        padding: 2,
        signals: [{ name: "gap", value: 14 }, { name: "edge", update: "min(150, width * 0.38)" },
          { name: "gaps", update: "max(data('left').length, data('right').length, 1)" }],
        data: [
          { name: "rows" },
          { name: "summed", source: "rows", transform: [
            sum(amount.name, source.name, target.name),
              { type: "filter", expr: "datum.amount > 0" },
            ...[source, target].map(({ name }) => formula(`${name}_place`, place(name)))] },
          nodes("left", source.name), nodes("right", target.name),
          { name: "flows", source: "summed", transform: [
            ...ends("left", source.name, target.name), ...ends("right", target.name, source.name),
              path] },
          { name: "whole", source: "left", transform: [sum("amount")] }],
        scales: [
          { name: "y", type: "linear", domain: { data: "whole", field: "amount" }, domainMin: 0,
            nice: false,
            zero: true, range: { signal: "[0, max(height - (gaps - 1) * gap, 10)]" } },
          { name: "color", type: "ordinal", domain: names, range: ink(colors) }],
        marks: [flow, ...marks("left", source.title, "edge", "8", "right", -6),
          ...marks("right", target.title, "width - edge - 8", "8", "left", 14)],
      };
    },
  };
})();
