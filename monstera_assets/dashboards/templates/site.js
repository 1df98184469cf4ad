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

  const theme = () => {
    const font = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
    const [muted, line] = ["muted", "line"].map(charts.css);
    const text = { labelColor: muted, titleColor: muted, labelFont: font, titleFont: font, labelFontSize: 11, titleFontSize: 11, titleFontWeight: 400 };
    return {
      background: null, padding: { left: 4, right: 24, top: 8, bottom: 8 }, font, aria: false, view: { stroke: null },
      axis: { ...text, domainColor: line, tickColor: line, gridColor: line, labelPadding: 5 },
      text: { color: charts.css("ink"), fontSize: 11 }, line: { strokeWidth: 1.8 },
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
      this.fields = this.fields.map(([name, title, format, options, usual]) => ({ name, title, format, options, usual }));
      this.rows = (columns[0] ?? []).map((_, row) => Object.fromEntries(this.fields.map(({ name }, n) => [name, columns[n][row]])));
      this.choices = this.fields.filter(({ options }) => options);
      const role = (name) => this.fields.some((one) => one.name === name && !one.options) ? name : "";
      [this.day, this.series, this.segment] = ["day", "series", "segment"].map(role);
      this.keys = this.fields.filter(({ name, options }) => !options && name !== this.series && name !== this.segment);
      this.value = this.fields.at(-1);
      this.segments = new Set(this.segment ? this.rows.map((row) => row[this.segment]) : []);
      this.host = element.querySelector(".chart");
      this.controls();
    }
    chosen({ name, options, usual }) {
      const value = state.get(`${this.id}.${name}`);
      return options.includes(value) ? value : usual;
    }
    get hidden() { return new Set((state.get(`${this.id}.hide`) ?? "").split("~").filter(Boolean)); }
    /** The rows that match the figure's own choices. */
    chosenRows() {
      const fixed = this.choices.map((one) => [one.name, this.chosen(one)]);
      return this.rows.filter((row) => fixed.every(([name, value]) => row[name] === value));
    }
    /** The series that these rows have. */
    present() {
      const found = new Set(this.chosenRows().map((row) => row[this.series]));
      return Object.keys(this.colors).filter((name) => found.has(name));
    }
    /** The rows that the reader chose. The first week or month may begin before the first day. */
    shown() {
      const [first, to] = range(), from = state.has("from") ? first : -Infinity;
      const asked = state.get("segment") ?? TOTAL, hidden = this.hidden;
      const segment = this.segments.has(asked) ? asked : TOTAL;
      return this.chosenRows().filter((row) =>
        (!this.day || (row[this.day] >= from && row[this.day] <= to)) &&
        (!this.segment || row[this.segment] === segment) &&
        (!this.series || !hidden.has(row[this.series])));
    }
    controls() {
      const bar = this.element.querySelector(".controls");
      for (const one of this.choices) {
        const select = make("select", { ariaLabel: one.title }, ...one.options.map((text) => make("option", { value: text, textContent: text })));
        select.value = this.chosen(one);
        select.addEventListener("change", () => { choose(`${this.id}.${one.name}`, select.value, one.usual); this.update(); });
        bar.append(make("label", {}, `${one.title} `, select));
      }
      const entries = Object.entries(this.colors).map(([name, color]) => {
        const swatch = make("span", { className: "swatch" });
        swatch.style.background = `var(--${color})`;
        if (!this.series) return make("span", { className: "entry" }, swatch, name);
        const button = make("button", { type: "button", className: "series" }, swatch, name);
        button.addEventListener("click", () => {
          const hidden = this.hidden;
          if (!hidden.delete(name)) hidden.add(name);
          choose(`${this.id}.hide`, [...hidden].join("~"));
          this.update();
        });
        return button;
      });
      const shown = !["flows", "waterfall"].includes(this.kind) && entries.length > (this.series ? 1 : 0);
      if (shown) bar.append(make("div", { className: "legend" }, ...entries));
      this.legend = shown && this.series ? entries : [];
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
      const value = (row, { name, format }) => format === "day" && row[name] !== null ? dayText(row[name]) : row[name];
      return line(this.fields.map(({ name }) => name)) + this.shown().map((row) => line(this.fields.map((field) => value(row, field)))).join("");
    }
    /** Fill the table below the chart: a row per day or category, a column per series. */
    table() {
      const data = this.element.querySelector("details.data"), { series, value } = this;
      if (!data.open) return;
      const keys = series ? this.keys.filter((one) => one !== value) : this.keys;
      const parts = series ? this.present().filter((name) => !this.hidden.has(name)) : [];
      const cells = new Map();
      for (const row of this.shown()) {
        const key = keys.map(({ name }) => row[name]), id = JSON.stringify(key);
        if (!cells.has(id)) cells.set(id, [key, {}]);
        cells.get(id)[1][row[series]] = row[value.name];
      }
      const columns = [...keys, ...parts.map((title) => ({ title, format: value.format }))];
      const body = [...cells.values()].map(([key, found]) => [...key, ...parts.map((name) => found[name])]);
      if (this.day) body.reverse();
      const cell = (tag, text, { format }, more) => make(tag, { textContent: text, className: ["", "day"].includes(format) ? "" : "number", ...more });
      data.querySelector(".scroll").replaceChildren(make("table", {},
        make("caption", { className: "unseen", textContent: this.element.querySelector(".title").textContent }),
        make("thead", {}, make("tr", {}, ...columns.map((one) => cell("th", one.title, one, { scope: "col" })))),
        make("tbody", {}, ...body.map((row) => make("tr", {}, ...columns.map((one, n) =>
          cell(n ? "td" : "th", formatted(row[n], one.format), one, n ? {} : { scope: "row" })))))));
    }
    async draw() {
      this.view?.finalize();
      // Values that are undefined are left out.
      const spec = JSON.parse(JSON.stringify(charts[this.kind](this))), isVega = this.kind === "flows";
      // A drag on a touch screen scrolls, so that charts have a brush for a mouse only.
      const brushed = [spec, ...(spec.layer ?? [])].filter((one) => one.params?.some(({ name }) => name === "brush"));
      const brush = brushed.length && !matchMedia("(pointer: coarse)").matches;
      if (!brush) for (const one of brushed) delete one.params;
      this.step = spec.height;
      spec.height = this.step ? this.steps() : this.height;
      if (isVega) {
        spec.width = this.host.clientWidth - 6;
        spec.data[0].values = this.shown();
      } else Object.assign(spec, { width: "container", autosize: { type: "fit-x", contains: "padding" }, data: { name: "rows" }, datasets: { rows: this.shown() } });
      const result = await vegaEmbed(this.host, spec, {
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
      if (this.kind === "flows") return this.draw();
      if (this.step) this.view?.height(this.steps());
      this.view?.data("rows", this.shown());
      await this.view?.resize().runAsync();
    }
    decorate() {
      const hidden = this.hidden, asked = state.get("segment") ?? TOTAL;
      const present = new Set(this.legend.length ? this.present() : []);
      for (const button of this.legend) {
        const name = button.textContent;
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

  const formatted = (value, form) => {
    if (value === null || value === undefined) return "not known";
    if (form === "" || form === "day") return form ? longDay(value) : value;
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
    const dated = figures.some(({ day }) => day);
    if (!dated) for (const name of ["days", "from", "to"]) inputs[name].closest("label").remove();
    document.querySelector("#filters").hidden = !dated && !segments.length;
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
      const word = input.value.trim().toLowerCase();
      for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(word);
      count.textContent = word ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
    });
  }
})();
