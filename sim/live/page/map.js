"use strict";

/** The cell: the edge in the middle, users around it, nearer with a better link; and the power each is sent with. */

const HALF = 200;
const NEAR = 62;
const FAR = 158;

/** From orange over grey to blue: told apart by everybody. part: 0 to 1. */
function between(part) {
  const [from, to, share] = part < 0.5 ? ["low", "middle", 2 * part] : ["middle", "high", 2 * part - 1];
  return `color-mix(in oklab, var(--${to}) ${Math.round(100 * share)}%, var(--${from}))`;
}

function known(values) {
  return (values ?? []).filter((value) => value !== null);
}

function ends(values) {
  const there = known(values);
  return there.length ? [Math.min(...there), Math.max(...there)] : [0, 1];
}

class CellMap {
  constructor(choose) {
    this.choose = choose;
    this.box = document.getElementById("map");
    this.note = document.getElementById("map-note");
    this.key = document.getElementById("map-key");
    this.names = [];
    this.svg = drawn("svg", { viewBox: `${-HALF} ${-HALF} ${2 * HALF} ${2 * HALF}`, role: "img" });
    this.box.replaceChildren(this.svg);
  }

  take(users, bounds) {
    const { names, numbers, many } = users;
    this.names = names;
    this.numbers = numbers;
    this.utilities = bounds.every((bound) => typeof bound === "number") ? bounds : ends(numbers.utility);
    const links = known(numbers.gain_db).length > 0;
    this.decibels = links ? this.scale(numbers.gain_db) : null;
    this.heaviest = Math.max(...known(numbers.weight), 1e-9);
    this.draw(many);
    const where = links ? "nearer: better link" : "no radio: all links alike";
    this.note.textContent = names.length < many ? `the ${names.length} users of ${many.toLocaleString("en")} with the least and the most utility · ${where}` : `${many} ${many === 1 ? "user" : "users"} · ${where}`;
    const told = names.slice(0, 20).map((name, k) => `${name} utility ${digits(numbers.utility?.[k])}`);
    this.svg.setAttribute("aria-label", `Cell map of ${many} users around the edge; ${where}. ${told.join(", ")}${names.length > 20 ? ", …" : ""}. The table of users has every number.`);
    this.legend();
  }

  /** Whole tens of dB, wider as links come that do not fit: the circles stay where they are. */
  scale(gains) {
    const [low, high] = ends(gains);
    const [before, after] = this.decibels ?? [Infinity, -Infinity];
    return [Math.min(before, 10 * Math.floor(low / 10)), Math.max(after, 10 * Math.floor(high / 10) + 10)];
  }

  place(k) {
    const many = this.names.length;
    const angle = (2 * Math.PI * k) / many - (many === 2 ? Math.PI : Math.PI / 2);
    return [angle, this.distance(k, many)];
  }

  distance(k, many) {
    const gain = this.numbers.gain_db?.[k];
    if (this.decibels) return gain === null ? FAR + 16 : FAR - ((FAR - NEAR) * (gain - this.decibels[0])) / (this.decibels[1] - this.decibels[0]);
    const rings = Math.min(4, Math.ceil(many / 48));
    return rings === 1 ? 128 : FAR - ((FAR - 80) * (k % rings)) / (rings - 1);
  }

  size(k) {
    const weight = this.numbers.weight?.[k];
    const most = Math.max(3.5, Math.min(15, 230 / this.names.length + 3));
    return weight === null || weight === undefined ? most / 2 : most * (0.35 + 0.65 * Math.sqrt(weight / this.heaviest));
  }

  draw(many) {
    const links = [], dots = [], words = [];
    this.names.forEach((name, k) => {
      const [angle, distance] = this.place(k);
      const [x, y] = [distance * Math.cos(angle), distance * Math.sin(angle)];
      const utility = this.numbers.utility?.[k];
      links.push(drawn("line", { class: "link", x1: 0, y1: 0, x2: x, y2: y, "stroke-dasharray": this.numbers.late?.[k] > 0 ? "3 3" : "none" }));
      const dot = drawn("circle", { class: utility === null ? "dot away" : "dot", cx: x, cy: y, r: this.size(k), "data-user": name }, drawn("title", {}, this.words(k)));
      if (utility !== null) dot.style.fill = this.tint(utility);
      dot.addEventListener("click", () => this.choose(name));
      dots.push(dot);
      if (many <= 12) words.push(this.label(name, angle, distance, this.size(k)));
    });
    const mast = [drawn("circle", { class: "mast", r: 19 }), drawn("text", { class: "mast-name", "text-anchor": "middle", y: 3.5 }, "edge")];
    this.svg.replaceChildren(...links, ...this.rings(), ...mast, ...dots, ...words);
    this.show(this.shown);
  }

  rings() {
    if (!this.decibels) return [];
    const [low, high] = this.decibels;
    const step = Math.max(10, 10 * Math.ceil((high - low) / 40));
    const aside = Math.PI / this.names.length - Math.PI / 2;
    const made = [];
    for (let level = high; level >= low; level -= step) {
      const radius = FAR - ((FAR - NEAR) * (level - low)) / (high - low);
      made.push(drawn("circle", { class: "ring", r: radius }));
      made.push(drawn("text", { class: "scale", x: radius * Math.cos(aside), y: radius * Math.sin(aside) + 3, "text-anchor": "middle" }, `${digits(level)} dB`));
    }
    return made;
  }

  label(name, angle, distance, size) {
    const out = distance + size + 5;
    const [x, y] = [out * Math.cos(angle), out * Math.sin(angle)];
    const anchor = Math.abs(Math.cos(angle)) < 0.3 ? "middle" : Math.cos(angle) > 0 ? "start" : "end";
    const short = name.length > 12 ? `${name.slice(0, 11)}…` : name;
    return drawn("text", { x, y: y + (anchor === "middle" ? (y > 0 ? 9 : -2) : 4), "text-anchor": anchor }, short);
  }

  words(k) {
    const { utility, weight, gain_db: gain, power } = this.numbers;
    const told = [`utility ${digits(utility?.[k])}`, `weight ${digits(weight?.[k])}`];
    if (this.decibels) told.push(`link ${digits(gain[k])} dB`, `${digits(power?.[k])} W`);
    return `${this.names[k]}: ${told.join(", ")}`;
  }

  tint(utility) {
    const [low, high] = this.utilities;
    return between(Math.max(0, Math.min(1, (utility - low) / (high - low || 1))));
  }

  legend() {
    const [low, high] = this.utilities;
    const strip = drawn("svg", { width: 96, height: 10, "aria-hidden": "true" });
    for (let i = 0; i < 24; i++) {
      const part = drawn("rect", { x: 4 * i, width: 4.2, height: 10 });
      part.style.fill = between(i / 23);
      strip.append(part);
    }
    const rows = [element("span", {}, `utility ${digits(low)}`), strip, element("span", {}, digits(high)), element("span", { class: "more" }, "size: weight |w| · hollow: not heard in the last round" + (known(this.numbers.late).some((late) => late > 0) ? " · dashed: late" : ""))];
    this.key.replaceChildren(...rows);
  }

  show(name) {
    this.shown = name;
    this.svg.querySelector(".chosen")?.remove();
    const k = this.names.indexOf(name);
    if (k < 0) return;
    const [angle, distance] = this.place(k);
    this.svg.append(drawn("circle", { class: "chosen", cx: distance * Math.cos(angle), cy: distance * Math.sin(angle), r: this.size(k) + 4 }));
  }
}

class PowerBars {
  constructor(card) {
    this.card = card;
    this.box = card.querySelector(".bars");
    this.note = card.querySelector(".note");
  }

  take(users, chosen) {
    const watts = users.numbers.power ?? [];
    this.card.hidden = known(watts).length === 0;
    if (this.card.hidden) return;
    const total = known(watts).reduce((sum, watt) => sum + watt, 0);
    this.note.textContent = `W, mean of the last round · ${digits(total)} W ${users.names.length < users.many ? "for those shown" : "together"}`;
    const most = Math.max(...known(watts), 1e-12);
    const width = Math.max(280, this.box.clientWidth);
    const parts = users.names.length <= 12 ? this.lying(users.names, watts, most, width, chosen) : this.standing(users.names, watts, most, width, chosen);
    this.box.replaceChildren(parts);
  }

  svg(width, height, names, watts, parts) {
    const told = names.slice(0, 40).map((name, k) => `${name} ${digits(watts[k])} W`).join(", ");
    return drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Downlink power: ${told}. The table of users has every number.` }, ...parts);
  }

  lying(names, watts, most, width, chosen) {
    const step = Math.min(30, 216 / names.length);
    const left = Math.min(110, 12 + 7 * Math.max(...names.map((name) => name.length)));
    const parts = names.flatMap((name, k) => {
      const y = k * step;
      const long = Math.max(1, ((width - left - 58) * (watts[k] ?? 0)) / most);
      const short = name.length > 14 ? `${name.slice(0, 13)}…` : name;
      return [
        drawn("text", { x: left - 8, y: y + step / 2 + 4, "text-anchor": "end", class: "on" }, short),
        drawn("rect", { class: name === chosen ? "chosen" : "bar-of", x: left, y: y + step * 0.16, width: long, height: step * 0.68, rx: 2 }),
        drawn("text", { x: left + long + 6, y: y + step / 2 + 4 }, digits(watts[k])),
      ];
    });
    return this.svg(width, 220, names, watts, parts);
  }

  standing(names, watts, most, width, chosen) {
    const step = (width - 46) / names.length;
    const parts = [0, 0.5, 1].flatMap((share) => {
      const y = 200 - 184 * share;
      return [drawn("line", { class: "floor", x1: 42, x2: width, y1: y, y2: y }), drawn("text", { x: 36, y: y + 4, "text-anchor": "end" }, digits(most * share))];
    });
    names.forEach((name, k) => {
      const high = Math.max(0.5, (184 * (watts[k] ?? 0)) / most);
      const bar = drawn("rect", { class: name === chosen ? "chosen" : "bar-of", x: 44 + k * step, y: 200 - high, width: Math.max(1, step * 0.72), height: high }, drawn("title", {}, `${name}: ${digits(watts[k])} W`));
      parts.push(bar);
    });
    parts.push(drawn("text", { x: 44, y: 216 }, names[0]), drawn("text", { x: width, y: 216, "text-anchor": "end" }, names[names.length - 1]));
    return this.svg(width, 220, names, watts, parts);
  }
}
