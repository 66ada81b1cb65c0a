"use strict";

/** Curves: what the page has of them, drawn by uPlot, read out below it, and told as a table. */

const DASHES = [[], [6, 3], [2, 2], [8, 3, 2, 3]];
const COLOURS = 8;
const TABLE_ROWS = 200;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function digits(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const text = Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3 ? value.toExponential(2) : Number(value.toPrecision(4)).toString();
  return text.replace("-", "−");
}

function element(kind, attributes = {}, ...children) {
  const made = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function drawn(kind, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

class Curve {
  constructor(card, { unit, floor = null, group }) {
    this.card = card;
    this.plotted = card.querySelector(".plot");
    this.legend = card.querySelector(".legend");
    this.note = card.querySelector(".note");
    this.details = card.querySelector("details");
    this.title = card.querySelector("h2").textContent;
    this.unit = unit;
    this.floor = floor;
    this.group = group;
    this.forget();
    this.plotted.tabIndex = 0;
    this.plotted.setAttribute("role", "img");
    this.plotted.addEventListener("keydown", (event) => this.walk(event));
    this.plotted.addEventListener("blur", () => this.keep(null));
    this.details.addEventListener("toggle", () => this.table());
    new ResizeObserver(() => this.resize()).observe(this.plotted);
  }

  forget() {
    this.names = [];
    this.x = [];
    this.y = [];
    this.width = 1;
    this.kept = null;
    this.plot?.destroy();
    this.plot = null;
  }

  /** told: names, band, width, from, x, y, as sim.live.curves tells them. axis: what x counts. */
  take(told, axis) {
    const same = this.plot && this.axis === axis && told.names.length === this.names.length && told.names.every((name, k) => name === this.names[k]);
    this.axis = axis;
    this.band = told.band;
    this.width = told.width;
    this.names = told.names;
    this.x = this.x.slice(0, told.from).concat(told.x);
    this.y = told.names.map((_, k) => (this.y[k] ?? []).slice(0, told.from).concat(told.y[k]));
    this.card.hidden = false;
    if (same) this.plot.setData(this.data());
    else this.draw();
    this.read(this.plot.cursor.idx ?? null);
    if (this.kept !== null) queueMicrotask(() => this.keep(this.kept));
    this.table();
  }

  data() {
    return [this.x, ...this.y];
  }

  look(k) {
    if (!this.band) return { stroke: `c${k % COLOURS}`, dash: DASHES[Math.floor(k / COLOURS) % DASHES.length], width: 1.6 };
    if (k === 2) return { stroke: "ink", dash: [], width: 1.6 };
    if (k === 5) return { stroke: "c1", dash: [6, 3], width: 1.6 };
    if (k === 6) return { stroke: "c2", dash: [2, 2], width: 1.6 };
    return { stroke: null, dash: [], width: 0 };
  }

  draw() {
    this.plot?.destroy();
    const series = this.names.map((name, k) => {
      const look = this.look(k);
      return { label: name, stroke: look.stroke ? colour(look.stroke) : "transparent", width: look.width, dash: look.dash, spanGaps: true, points: { show: this.few.bind(this), size: 5 } };
    });
    const axis = { stroke: colour("muted"), font: "11px system-ui, sans-serif", ticks: { show: false } };
    const shade = colour("c0");
    this.plot = new uPlot({
      width: this.plotted.clientWidth || 300,
      height: 200,
      legend: { show: false },
      cursor: { y: false, sync: { key: this.group, setSeries: false }, drag: { x: true, y: false }, points: { size: 6 } },
      scales: { x: { time: false, range: (_, low, high) => [Math.floor(low ?? 0), Math.max(high ?? 1, Math.floor(low ?? 0) + 1)] }, y: { range: (_, low, high) => this.range(low, high) } },
      axes: [
        { ...axis, grid: { show: false }, size: 30, gap: 4, space: 60, values: (_, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? String(tick) : "")) },
        { ...axis, grid: { stroke: colour("grid"), width: 1 }, size: 48, gap: 6, space: 34, values: (_, ticks) => ticks.map(digits) },
      ],
      series: [{}, ...series],
      bands: this.band ? [{ series: [5, 1], fill: `${shade}22` }, { series: [4, 2], fill: `${shade}38` }] : [],
      hooks: { setCursor: [(plot) => this.read(plot.cursor.idx)] },
    }, this.data(), this.plotted);
  }

  few(_plot, _series, first, last) {
    return last - first < 12;
  }

  range(low, high) {
    if (low === null) return [0, 1];
    const room = 0.06 * (high - low) || 0.05 * Math.max(Math.abs(high), 1e-6);
    return [this.floor === null ? low - room : Math.min(this.floor, low), high + room];
  }

  resize() {
    const width = this.plotted.clientWidth;
    if (this.plot && width && Math.abs(width - this.plot.width) > 1) this.plot.setSize({ width, height: 200 });
  }

  place(index) {
    const at = this.x[index];
    if (this.width > 1 || !Number.isInteger(at)) return `${this.axis} ${digits(Math.round(at * 100) / 100)}`;
    return `${this.axis} ${at}`;
  }

  /** Names and values below the plot: at the cursor, else the last ones. */
  read(index) {
    const at = index ?? this.x.length - 1;
    if (at < 0 || !this.names.length) return;
    const told = this.names.map((name, k) => [name, this.lastKnown(k, at, index === null)]);
    const rows = told.map(([name, value], k) => {
      const item = element("li", {}, this.swatch(k), element("span", { class: "of", title: name }, name), element("span", {}, digits(value)));
      return item;
    });
    this.legend.replaceChildren(...rows);
    const mean = this.width > 1 ? `, each point the mean of ${this.width} ${this.steps}` : "";
    this.note.textContent = `${this.unit} by ${this.axis}${mean} · ${index === null ? "latest" : this.place(at)}`;
    this.plotted.setAttribute("aria-label", `${this.title}, ${this.place(at)}: ${told.map(([name, value]) => `${name} ${digits(value)}`).join(", ")}. Arrow keys move along the curve; a table follows.`);
  }

  lastKnown(k, at, back) {
    let value = this.y[k][at];
    for (let i = at; back && value === null && i > 0; i--) value = this.y[k][i - 1];
    return value;
  }

  swatch(k) {
    const look = this.look(k);
    const line = drawn("line", { x1: 0, x2: 18, y1: 5, y2: 5, "stroke-width": 2.5 });
    line.style.stroke = look.stroke ? `var(--${look.stroke})` : "var(--c0)";
    if (look.dash.length) line.setAttribute("stroke-dasharray", look.dash.join(" "));
    if (!look.stroke) {
      line.setAttribute("stroke-width", 8);
      line.style.opacity = k === 1 || k === 3 ? 0.4 : 0.2;
    }
    return drawn("svg", { width: 18, height: 10, "aria-hidden": "true" }, line);
  }

  walk(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || !this.plot || !this.x.length) return;
    event.preventDefault();
    const now = this.plot.cursor.idx ?? this.x.length - 1;
    const next = Math.max(0, Math.min(this.x.length - 1, now + step));
    this.keep(this.x[next]);
  }

  /** Where the keyboard left the cursor, or nowhere: pixels move when more comes. */
  keep(x) {
    this.kept = x;
    this.plot?.setCursor(x === null ? { left: -10, top: -10 } : { left: this.plot.valToPos(x, "x"), top: 10 });
  }

  table() {
    if (!this.details.open || !this.x.length) return;
    const every = Math.ceil(this.x.length / TABLE_ROWS);
    const rows = this.x.map((_, i) => i).filter((i) => i % every === 0 || i === this.x.length - 1).reverse();
    const names = element("tr", {}, element("th", { scope: "col" }, this.axis), ...this.names.map((name) => element("th", { scope: "col" }, name)));
    const body = rows.map((i) => element("tr", {}, element("th", { scope: "row" }, this.place(i).replace(`${this.axis} `, "")), ...this.y.map((y) => element("td", {}, digits(y[i])))));
    const caption = element("caption", { class: "quiet" }, every > 1 ? `one point in ${every}, the newest first` : "the newest first");
    this.details.querySelector(".scroll").replaceChildren(element("table", {}, caption, element("thead", {}, names), element("tbody", {}, ...body)));
  }
}
