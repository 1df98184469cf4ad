"use strict";
(() => {
  // The age of the data depends on when the page is read, so it is computed here.
  for (const age of document.querySelectorAll(".age")) {
    const days = Math.floor(Date.now() / 864e5) - Date.parse(age.dataset.asOf + "T00:00Z") / 864e5;
    if (days < 0) continue;
    age.textContent = days === 0 ? ", today" : days === 1 ? ", yesterday" : `, ${days.toLocaleString("en")} days ago`;
    age.classList.toggle("old", days > 2);
  }

  // Show the nearest row of the table when the pointer is over a chart.
  for (const chart of document.querySelectorAll(".chart[data-plots]")) {
    const plots = JSON.parse(chart.dataset.plots);
    const table = chart.closest("figure").querySelector(".data table");
    if (!plots.length || !table) continue;
    const [width] = chart.dataset.size.split(" ").map(Number);
    const rows = [...table.tBodies[0].rows].reverse();
    const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
    const bands = "bands" in chart.dataset;
    const tip = document.createElement("div"), hair = document.createElement("div");
    tip.className = "tip"; hair.className = "hair"; tip.hidden = hair.hidden = true;
    tip.setAttribute("aria-hidden", "true");
    chart.append(hair, tip);
    const hide = () => { tip.hidden = hair.hidden = true; };
    chart.addEventListener("pointerleave", hide);
    chart.addEventListener("pointermove", (event) => {
      const box = chart.querySelector("svg").getBoundingClientRect();
      const above = box.top - chart.getBoundingClientRect().top;
      const scale = box.width / width;
      const x = (event.clientX - box.left) / scale, y = (event.clientY - box.top) / scale;
      const inside = ([left, across, top, height]) =>
        x >= left - 12 && x <= left + across + 12 && y >= top - 24 && y <= top + height + 8;
      const plot = plots.find(inside);
      if (!plot) return hide();
      const [left, across, top, height, columns] = plot;
      const steps = bands ? rows.length : Math.max(rows.length - 1, 1);
      let place = (x - left) / across * steps;
      place = Math.max(0, Math.min(rows.length - 1, bands ? Math.floor(place) : Math.round(place)));
      const at = left + across * (bands ? place + .5 : place) / steps;
      const cells = rows[place].cells;
      tip.replaceChildren(...[cells[0].textContent, ...columns.map((n) =>
        columns.length > 1 || plots.length > 1 ? `${heads[n]}: ${cells[n].textContent}` : cells[n].textContent
      )].map((text) => Object.assign(document.createElement("div"), { textContent: text })));
      tip.hidden = hair.hidden = false;
      hair.style.left = `${at * scale}px`; hair.style.top = `${above + top * scale}px`; hair.style.height = `${height * scale}px`;
      const space = box.width - tip.offsetWidth;
      tip.style.left = `${Math.max(0, Math.min(space, at * scale + (at * scale > box.width / 2 ? -tip.offsetWidth - 10 : 10)))}px`;
      tip.style.top = `${above + top * scale}px`;
    });
  }

  // Sort a table when a heading is clicked.
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (table.tBodies[0].rows[0].cells[column].querySelector(".links")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const body = table.tBodies[0];
        const key = (row) => row.cells[column].dataset.order;
        const sign = up ? 1 : -1;
        body.append(...[...body.rows].sort((a, b) => {
          const [left, right] = [key(a), key(b)];
          if (left !== undefined && right !== undefined) return sign * (left - right);
          if (left !== undefined) return -1;
          if (right !== undefined) return 1;
          return sign * a.cells[column].textContent.localeCompare(b.cells[column].textContent, "en");
        }));
      });
    });
  }

  // Filter table rows by a search term.
  for (const scroll of document.querySelectorAll("[data-searchable]")) {
    const rows = [...scroll.querySelectorAll("tbody tr")];
    if (rows.length < 10) continue;
    const label = document.createElement("label"), input = document.createElement("input"), count = document.createElement("span");
    label.className = "search";
    input.type = "search";
    count.setAttribute("role", "status");
    label.append("Filter ", input, count);
    scroll.before(label);
    input.addEventListener("input", () => {
      const word = input.value.trim().toLowerCase();
      let left = 0;
      for (const row of rows) {
        row.hidden = !row.textContent.toLowerCase().includes(word);
        left += !row.hidden;
      }
      count.textContent = word ? `${left} of ${rows.length}` : "";
    });
  }
})();
