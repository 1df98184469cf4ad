"use strict";
(() => {
  const TOTAL = "all", DAY = 864e5;
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const dayText = (time) => new Date(time).toISOString().slice(0, 10);
  const longDay = (time) => {
    const day = new Date(time);
    return `${day.getUTCDate()} ${day.toLocaleDateString("en-US", { month: "short", timeZone: "UTC" })} ${day.getUTCFullYear()}`;
  };
  const read = (script) => JSON.parse(script.textContent);
  const search = (text, word) => text.toLowerCase().includes(word.trim().toLowerCase());

  // The choices: from, to, segment, and each figure's own. The link contains them after the #.
  const page = document.querySelector("#choices"), bounds = page ? read(page) : {};
  const state = new URLSearchParams(location.hash.slice(1));
  const choose = (key, value, usual = "") => {
    if (value === usual || value === null) state.delete(key); else state.set(key, value);
    history.replaceState(null, "", state.size ? `#${state}` : location.pathname + location.search);
  };
  const range = () => {
    const time = (key) => { const at = Date.parse(`${state.get(key)}T00:00Z`); return Number.isNaN(at) ? null : at; };
    return [time("from") ?? bounds.first * DAY, time("to") ?? bounds.last * DAY];
  };

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const painted = (value) => typeof value === "string"
    ? value.replace(/^var\((--[\w-]+)\)$/, (_, name) => color(name))
    : Array.isArray(value) ? value.map(painted)
    : value && typeof value === "object"
      ? Object.fromEntries(Object.entries(value).map(([key, one]) => [key, painted(one)])) : value;
  const theme = () => {
    const font = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
    const text = { labelColor: color("--muted"), titleColor: color("--muted"), labelFont: font, titleFont: font, labelFontSize: 11, titleFontSize: 11, titleFontWeight: 400 };
    return {
      background: null, padding: { left: 4, right: 24, top: 8, bottom: 8 }, font, aria: false, view: { stroke: null },
      axis: { ...text, domainColor: color("--line"), tickColor: color("--line"), gridColor: color("--line"), labelPadding: 5 },
      text: { color: color("--ink"), fontSize: 11 }, line: { strokeWidth: 1.8 },
    };
  };

  class Figure {
    constructor(element) {
      this.element = element;
      this.id = element.id;
      Object.assign(this, read(element.querySelector("script[type='application/json']")));
      const columns = this.columns.map((column, n) => {
        const format = this.fields[n][2];
        if (format === "day") return column.map((day) => day === null ? null : day * DAY);
        return format === "" ? column.codes.map((code) => column.texts[code]) : column;
      });
      this.names = this.fields.map(([name]) => name);
      this.rows = (columns[0] ?? []).map((_, row) => Object.fromEntries(this.names.map((name, n) => [name, columns[n][row]])));
      this.segments = new Set(this.segment ? this.rows.map((row) => row[this.segment]) : []);
      this.host = element.querySelector(".chart");
      this.controls();
    }
    chosen([field, , options, usual]) {
      const value = state.get(`${this.id}.${field}`);
      return options.includes(value) ? value : usual;
    }
    get hidden() { return new Set((state.get(`${this.id}.hide`) ?? "").split("~").filter(Boolean)); }
    /** The rows that match the figure's own choices. */
    chosenRows() {
      const fixed = this.choices.map((one) => [one[0], this.chosen(one)]);
      return this.rows.filter((row) => fixed.every(([field, value]) => row[field] === value));
    }
    /** The series that these rows have. */
    present() {
      const found = new Set(this.chosenRows().map((row) => row[this.series]));
      return Object.keys(this.colors).filter((name) => found.has(name));
    }
    /** The rows that the reader chose. */
    shown() {
      const [from, to] = range(), asked = state.get("segment") ?? TOTAL, hidden = this.hidden;
      const segment = this.segments.has(asked) ? asked : TOTAL;
      return this.chosenRows().filter((row) =>
        (!this.day || (row[this.day] >= from && row[this.day] <= to)) &&
        (!this.segment || row[this.segment] === segment) &&
        (!this.series || !hidden.has(row[this.series])));
    }
    controls() {
      const bar = this.element.querySelector(".controls");
      for (const one of this.choices) {
        const [field, title, options, usual] = one;
        const select = make("select", { ariaLabel: title }, ...options.map((text) => make("option", { value: text, textContent: text })));
        select.value = this.chosen(one);
        select.addEventListener("change", () => { choose(`${this.id}.${field}`, select.value, usual); this.update(); });
        bar.append(make("label", {}, `${title} `, select));
      }
      const series = Object.keys(this.colors);
      this.legend = series.length > 1 ? series.map((name) => {
        const swatch = make("span", { className: "swatch" });
        swatch.style.background = `var(--${this.colors[name]})`;
        const button = make("button", { type: "button", className: "series" }, swatch, name);
        button.addEventListener("click", () => {
          const hidden = this.hidden;
          if (!hidden.delete(name)) hidden.add(name);
          choose(`${this.id}.hide`, [...hidden].join("~"));
          this.update();
        });
        return [name, button];
      }) : [];
      if (this.legend.length) bar.append(make("div", { className: "legend" }, ...this.legend.map(([, button]) => button)));
      const scale = [this.spec, ...(this.spec.layer ?? [])].map((one) => one.encoding?.color?.scale).find((one) => one?.domain);
      if (!series.length && scale) bar.append(make("div", { className: "legend" }, ...scale.domain.map((name, n) => {
        const swatch = make("span", { className: "swatch" });
        swatch.style.background = scale.range[n];
        return make("span", { className: "entry" }, swatch, name);
      })));
      const save = (name, click) => {
        const button = make("button", { type: "button", className: "save", textContent: name, ariaLabel: `Download ${name}: ${this.element.querySelector("h3").textContent}` });
        button.addEventListener("click", click);
        return button;
      };
      this.element.querySelector(".more").append(
        save("CSV", () => this.download(URL.createObjectURL(new Blob([this.csv()], { type: "text/csv" })), "csv")),
        save("PNG", async () => this.download(await this.view.toImageURL("png", 2), "png")));
      const data = this.element.querySelector("details.data");
      data.addEventListener("toggle", () => this.table());
    }
    download(href, ending) {
      const name = this.element.querySelector(".title").textContent.toLowerCase().replace(/[^a-z0-9]+/g, "_");
      make("a", { href, download: `${name}.${ending}` }).click();
    }
    csv() {
      const quoted = (value) => value === null ? "" : /[",\n\r]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value);
      const line = (values) => `${values.map(quoted).join(",")}\r\n`;
      const value = (row, [name, , format]) => format === "day" && row[name] !== null ? dayText(row[name]) : row[name];
      return line(this.names) + this.shown().map((row) => line(this.fields.map((field) => value(row, field)))).join("");
    }
    format(value, form) {
      if (value === null || value === undefined) return "not known";
      return form === "day" ? longDay(value) : form === "" ? value : number(value, form);
    }
    /** Fill the table below the chart: a row per day or category, a column per series. */
    table() {
      const data = this.element.querySelector("details.data");
      if (!data.open) return;
      const fixed = new Set([this.series, this.segment, ...(this.total ? [this.day] : []), ...this.choices.map(([field]) => field)]);
      const value = this.fields.at(-1), keys = this.fields.filter(([name]) => !fixed.has(name) && (!this.series || name !== value[0]));
      const rows = this.total ? this.addedUp(keys, value[0]) : this.shown(), series = this.present().filter((name) => !this.hidden.has(name));
      const cells = new Map();
      for (const row of rows) {
        const key = keys.map(([name]) => row[name]), id = JSON.stringify(key);
        if (!cells.has(id)) cells.set(id, [key, {}]);
        if (this.series) cells.get(id)[1][row[this.series]] = row[value[0]];
      }
      const titles = [...keys.map(([, title]) => title), ...(this.series ? series : [])];
      const numeric = [...keys.map(([, , form]) => !["", "day"].includes(form)), ...series.map(() => true)];
      const body = [...cells.values()].map(([key, found]) => [
        ...key.map((one, n) => this.format(one, keys[n][2])),
        ...(this.series ? series.map((name) => this.format(found[name], value[2])) : [])]);
      if (this.day && !this.total) body.reverse();
      data.querySelector(".scroll").replaceChildren(make("table", {},
        make("caption", { className: "unseen", textContent: this.element.querySelector(".title").textContent }),
        make("thead", {}, make("tr", {}, ...titles.map((text, n) => make("th", { scope: "col", textContent: text, className: numeric[n] ? "number" : "" })))),
        make("tbody", {}, ...body.map((row) => make("tr", {}, ...row.map((text, n) =>
          make(n ? "td" : "th", { textContent: text, className: numeric[n] ? "number" : "", ...(n ? {} : { scope: "row" }) })))))));
    }
    /** The rows added up over the days. */
    addedUp(keys, value) {
      const sums = new Map();
      for (const row of this.shown()) {
        const id = JSON.stringify(keys.map(([name]) => name === value || row[name]));
        sums.set(id, { ...row, [value]: (sums.get(id)?.[value] ?? 0) + row[value] });
      }
      return [...sums.values()];
    }
    async draw() {
      this.view?.finalize();
      const spec = painted(this.spec), isVega = spec.$schema === "vega";
      delete spec.$schema;
      // A drag on a touch screen scrolls, so that charts have a brush for a mouse only.
      const brushed = [spec, ...(spec.layer ?? [])].filter((one) => one.params?.some(({ name }) => name === "brush"));
      const brush = brushed.length && !matchMedia("(pointer: coarse)").matches;
      if (!brush) for (const one of brushed) one.params = one.params.filter(({ name }) => name !== "brush");
      this.step = spec.height;
      if (this.step?.of) spec.height = this.steps();
      const size = isVega ? { width: this.host.clientWidth - 6, height: this.height } : { width: "container", ...(spec.height ? {} : { height: this.height }), autosize: { type: "fit-x", contains: "padding" } };
      if (isVega) spec.data[0].values = this.shown();
      const result = await vegaEmbed(this.host, { ...size, ...spec, ...(isVega ? {} : { datasets: { rows: this.shown() } }) }, {
        ast: true, actions: false, renderer: "svg", mode: isVega ? "vega" : "vega-lite", config: theme(), defaultStyle: false, tooltip: { disableDefaultStyle: true },
      });
      this.view = result.view;
      // The host is an image with the figure's name and finding.
      for (const svg of all("svg", this.host)) { svg.removeAttribute("role"); svg.setAttribute("aria-hidden", "true"); }
      if (brush) this.brushed();
      this.decorate();
    }
    steps() { return this.step.step * Math.max(1, new Set(this.shown().map((row) => row[this.step.of])).size); }
    brushed() {
      let timer;
      this.view.addSignalListener("brush", (_, value) => {
        clearTimeout(timer);
        const days = Object.values(value)[0];
        if (!days || days.length < 2) return;
        timer = setTimeout(() => {
          const [from, to] = [Math.ceil(Math.min(...days) / DAY) * DAY, Math.floor(Math.max(...days) / DAY) * DAY];
          if (to > from) setRange(dayText(from), dayText(to));
        }, 400);
      });
    }
    async update() {
      this.decorate();
      if (this.spec.$schema === "vega") return this.draw();
      if (this.step?.of) this.view?.height(this.steps());
      this.view?.data("rows", this.shown());
      await this.view?.resize().runAsync();
    }
    decorate() {
      const hidden = this.hidden, asked = state.get("segment") ?? TOTAL;
      const present = new Set(this.legend.length ? this.present() : []);
      for (const [name, button] of this.legend) {
        button.hidden = !present.has(name);
        button.setAttribute("aria-pressed", String(!hidden.has(name)));
      }
      const notes = [];
      if (asked !== TOTAL && !this.segments.has(asked)) notes.push("Shows all segments.");
      if (state.has("from") || state.has("to")) notes.push(this.day ? `Shows ${range().map(longDay).join(" to ")}.` : "Not limited to the chosen days.");
      if (this.rows.length && !this.shown().length) notes.push("No rows match.");
      this.element.querySelector(".note").textContent = notes.join(" ");
      this.table();
    }
  }

  const number = (value, form) => {
    const digits = Number(/\.(\d)/.exec(form)?.[1] ?? 0);
    const style = form.includes("%") ? { style: "percent" } : {};
    return new Intl.NumberFormat("en-US", { ...style, roundingMode: "halfEven", signDisplay: form.startsWith("+") ? "always" : "auto", useGrouping: form.includes(","), minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
  };

  const figures = all("figure[id]").map((element) => new Figure(element));
  const redraw = async () => { for (const figure of figures) await figure.draw(); document.body.dataset.drawn = "yes"; };
  const updateAll = async () => { for (const figure of figures) await figure.update(); };

  const inputs = Object.fromEntries(all("#filters [name]").map((input) => [input.name, input]));
  const showRange = () => {
    const [from, to] = range().map(dayText);
    inputs.from.value = from; inputs.to.value = to;
    inputs.days.value = [...inputs.days.options].find((one) => one.dataset.from === from && to === inputs.to.max)?.value ?? "own";
  };
  const setRange = (from, to) => {
    choose("from", from, inputs.from.min); choose("to", to, inputs.to.max);
    showRange(); updateAll();
  };
  if (inputs.from) {
    const [first, last] = [bounds.first * DAY, bounds.last * DAY].map(dayText);
    for (const input of [inputs.from, inputs.to]) {
      [input.min, input.max] = [first, last];
      input.addEventListener("change", () => { if (inputs.from.value && inputs.to.value && inputs.from.value <= inputs.to.value) setRange(inputs.from.value, inputs.to.value); });
    }
    for (const option of inputs.days.options) {
      const days = Number(option.value);
      option.dataset.from = days ? dayText(Math.max(bounds.first, bounds.last - days + 1) * DAY) : option.value === "all" ? first : "";
    }
    inputs.days.addEventListener("change", () => { const { from } = inputs.days.selectedOptions[0].dataset; if (from) setRange(from, last); });
    const segments = [...new Set(figures.flatMap((figure) => [...figure.segments]))].filter((one) => one !== TOTAL).sort();
    if (segments.length) {
      const groups = Map.groupBy(segments, (one) => one.split(":", 1)[0]);
      inputs.segment.append(...[...groups].map(([name, ones]) => {
        const title = name.replaceAll("_", " ");
        return make("optgroup", { label: title }, ...ones.map((one) => make("option", { value: one, textContent: `${title}: ${one.slice(name.length + 1)}` })));
      }));
      inputs.segment.value = segments.includes(state.get("segment")) ? state.get("segment") : TOTAL;
      inputs.segment.addEventListener("change", () => { choose("segment", inputs.segment.value, TOTAL); updateAll(); });
    } else inputs.segment.closest("label").remove();
    document.querySelector("#filters").hidden = false;
    document.querySelector("#filters button").addEventListener("click", () => {
      for (const key of [...state.keys()]) choose(key, null);
      location.reload();
    });
    showRange();
  }
  if (figures.length) redraw(); else document.body.dataset.drawn = "yes";
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  addEventListener("hashchange", () => location.reload());

  // Sort a table when a heading is clicked.
  for (const table of all("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = make("button", { type: "button", textContent: head.textContent });
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const key = (row) => row.cells[column].dataset.order, sign = up ? 1 : -1;
        table.tBodies[0].append(...[...table.tBodies[0].rows].sort((a, b) => {
          const [left, right] = [key(a), key(b)];
          if (left !== undefined && right !== undefined) return sign * (left - right);
          if (left !== undefined || right !== undefined) return left !== undefined ? -1 : 1;
          return sign * a.cells[column].textContent.localeCompare(b.cells[column].textContent, "en");
        }));
      });
    });
  }

  // Filter table rows by a search term.
  for (const scroll of all("[data-searchable]")) {
    const rows = all("tbody tr", scroll);
    if (rows.length < 10) continue;
    const input = make("input", { type: "search" }), count = make("span", { role: "status" });
    scroll.before(make("label", { className: "search" }, "Filter ", input, count));
    input.addEventListener("input", () => {
      for (const row of rows) row.hidden = !search(row.textContent, input.value);
      count.textContent = input.value.trim() ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
    });
  }
})();
