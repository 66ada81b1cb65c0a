"use strict";

/** The page: which run, its stream of news, and what the buttons ask for. */

const at = (id) => document.getElementById(id);
const WORDS = {
  waiting: ["waiting to begin", ""], running: ["running", "good"], paused: ["paused", "held"], stopping: ["stopping after this slot", "held"],
  done: ["done", ""], stopped: ["stopped", "held"], failed: ["failed", "bad"], interrupted: ["interrupted", "bad"], unreadable: ["unreadable", "bad"],
};
const LIVING = ["running", "paused", "stopping"];
const LIST_EVERY = 3000;

let curves = {};
let map, power, stream;
let run = null;
let users = null;
let chosen = null;
let head = null;
let sorted = { key: null, down: false };
let over = false;

function begin() {
  map = new CellMap(choose);
  power = new PowerBars(at("power"));
  curves = {
    utility: new Curve(at("utility"), { unit: "l_max − loss", group: "run" }),
    weight: new Curve(at("weight"), { unit: "|w|", floor: 0, group: "run" }),
    fairness: new Curve(at("fairness"), { unit: "alpha-fair value of the users' utilities", group: "run" }),
    regret: new Curve(at("regret"), { unit: "against the best model in hindsight,", group: "run" }),
  };
  at("picker").addEventListener("change", (event) => open(event.target.value));
  at("pause").addEventListener("click", () => ask(head?.wishes ? "continue" : "pause"));
  at("stop").addEventListener("click", () => at("sure").showModal());
  at("no").addEventListener("click", () => at("sure").close());
  at("yes").addEventListener("click", () => { at("sure").close(); ask("stop"); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => Object.values(curves).forEach((curve) => curve.plot && curve.draw()));
  addEventListener("hashchange", () => open(wanted() ?? run));
  list();
  setInterval(list, LIST_EVERY);
}

function wanted() {
  return location.hash.startsWith("#run=") ? decodeURIComponent(location.hash.slice(5)) : null;
}

async function list() {
  if (over || (run !== null && document.hidden)) return;
  try {
    const answer = await fetch("api/runs");
    if (!answer.ok) throw new Error(await answer.text());
    offer(await answer.json());
  } catch (error) {
    if (run === null) trouble(`The list of runs cannot be read: ${error.message}`);
  }
}

function offer({ folder, runs }) {
  at("choice").hidden = runs.length < 2;
  const told = runs.map((one) => [one.name, `${one.name === "." ? folder : one.name} · ${one.status}${one.started ? ` · ${moment(one.started)}` : ""}`]);
  const picker = at("picker");
  if (picker.options.length !== told.length || told.some(([name, text], k) => picker.options[k].value !== name || picker.options[k].text !== text)) {
    picker.replaceChildren(...told.map(([name, text]) => element("option", { value: name }, text)));
  }
  if (run === null) {
    const first = wanted() ?? (runs.find((one) => one.status === "running") ?? runs.find((one) => one.name === ".") ?? runs[0])?.name;
    if (first !== undefined) open(first);
    else trouble(`No run under ${folder} yet; this page finds the first one.`);
  }
  picker.value = run;
}

function moment(text) {
  const time = new Date(text);
  return isNaN(time) ? text : time.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

function open(name) {
  if (name === null || name === run) return;
  run = name;
  users = chosen = head = null;
  at("picker").value = name;
  if (wanted() !== name && (wanted() !== null || name !== ".")) history.replaceState(null, "", `#run=${encodeURIComponent(name)}`);
  Object.values(curves).forEach((curve) => curve.forget());
  at("fairness").hidden = at("regret").hidden = at("power").hidden = true;
  map.decibels = null;
  listen();
}

function listen() {
  stream?.close();
  stream = new EventSource(`api/stream?run=${encodeURIComponent(run)}`);
  stream.addEventListener("message", (event) => take(JSON.parse(event.data)));
  stream.addEventListener("goodbye", () => leave());
  stream.addEventListener("error", () => {
    if (over) return;
    trouble(stream.readyState === EventSource.CLOSED ? `There is no run ${run} to watch here.` : "The watcher cannot be reached; trying again.");
  });
}

function leave() {
  over = true;
  stream.close();
  at("pause").disabled = at("stop").disabled = true;
  at("why").textContent = `The watcher has ended; what stands here was its last look. To look again: equiran watch ${head?.folder ?? ""}`;
}

function trouble(text) {
  at("trouble").textContent = text;
  at("trouble").hidden = !text;
}

function take(news) {
  if (news.head === null) {
    at("run").hidden = true;
    trouble(news.trouble);
    return;
  }
  head = news.head;
  const failed = head.status === "failed" && head.error ? `The run failed: ${head.error}` : "";
  const training = head.training ? `This is a power trainer by itself: it has no slots. Its report has its curves: equiran report ${head.folder}` : "";
  trouble(news.trouble || failed || training);
  tellHead();
  tellTiles(news.tiles);
  users = news.users;
  at("run").hidden = users.names.length === 0;
  if (news.events) tellEvents(news.events, news.counts);
  if (!users.names.length) return;
  map.take(users, [head.u_min, head.u_max]);
  const many = head.rounds > 1 || !head.by_slot;
  for (const [name, told] of Object.entries(news.curves)) {
    const bySlot = head.by_slot && (name === "utility" || name === "weight");
    curves[name].steps = bySlot ? "slots" : "rounds";
    if (bySlot && !many) told.x = told.x.map((x) => x * head.slots);
    curves[name].take(told, bySlot && !many ? "slot" : "round");
  }
  power.take(users, chosen);
  arrange();
  tellUsers();
}

/** Four cards stand beside the map; the style sheet sees to the rest. */
function arrange() {
  const small = ["utility", "weight", "fairness", "regret", "power", "events"].filter((id) => !at(id).hidden);
  document.querySelector(".grid").dataset.rest = Math.max(0, small.length - 4);
}

function tellHead() {
  const [words, tone] = WORDS[head.status] ?? [head.status, ""];
  at("name").textContent = head.name;
  at("folder").textContent = head.folder;
  if (at("status").textContent !== words) at("status").textContent = words;
  at("status").className = `pill ${tone}`;
  at("way").hidden = !head.rounds;
  at("progress").max = head.rounds || 1;
  at("progress").value = head.done;
  at("far").textContent = `${head.done.toLocaleString("en")} of ${(head.rounds ?? 0).toLocaleString("en")} rounds of ${(head.slots ?? 0).toLocaleString("en")} slots`;
  at("facts").replaceChildren(...head.facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  document.title = `${LIVING.includes(head.status) ? `${head.done}/${head.rounds} ` : ""}${head.name} · EquiRAN`;
  const off = over || head.controls !== "" || head.status === "stopping";
  at("pause").disabled = at("stop").disabled = off;
  at("pause").textContent = head.wishes ? "Go on" : "Pause";
  at("resume").textContent = `equiran resume ${head.folder}`;
  at("why").textContent = why();
}

function why() {
  const cut = head.cut.length ? ` Unfinished records at the end of ${head.cut.join(", ")} are left out.` : "";
  if (head.status === "interrupted") return `No process runs here any more. To go on: equiran resume ${head.folder}.${cut}`;
  if (head.status === "stopped") return `To go on: equiran resume ${head.folder}.${cut}`;
  if (head.wishes && head.status === "running") return "To be held after this slot.";
  return LIVING.includes(head.status) ? head.controls + cut : cut;
}

function tellTiles(tiles) {
  const told = tiles.map((tile) => element("div", { title: tile.about }, element("dt", {}, tile.label), element("dd", { class: "value" }, tile.value), element("dd", { class: "under" }, tile.note)));
  at("tiles").replaceChildren(...told);
}

function tellEvents(events, counts) {
  const card = at("events");
  card.querySelector(".note").textContent = counts.map(([kind, many]) => `${kind} ${many.toLocaleString("en")}`).join(" · ") || "nothing happened yet";
  card.querySelector(".events").replaceChildren(...events.map(entry));
}

function entry({ time, kind, tone, place, users: whom, what, many }) {
  const clock = new Date(time);
  const when = isNaN(clock) ? "" : clock.toLocaleTimeString("en-GB");
  const who = whom.length > 1 ? `${whom[0]}${many > 2 ? " … " : ", "}${whom[whom.length - 1]}` : whom[0] ?? "";
  const times = many > 1 ? ` × ${many.toLocaleString("en")}` : "";
  const line = element("span", {}, element("b", {}, kind.replaceAll("_", " ")), times, [who, place].filter(Boolean).map((text) => ` · ${text}`).join(""));
  const item = element("li", { class: tone }, element("time", { datetime: time }, when), line);
  if (what) item.append(element("span", { class: "what" }, what));
  return item;
}

function tellUsers() {
  const card = at("users");
  card.querySelector(".note").textContent = users.names.length < users.many ? `${users.names.length} of ${users.many.toLocaleString("en")}: those with the least and the most utility` : "the numbers of the map";
  const box = card.querySelector(".people");
  const [top, left, focus] = [box.scrollTop, box.scrollLeft, box.contains(document.activeElement) ? document.activeElement.id : ""];
  const columns = [["", "user", users.names], ...users.columns];
  const titles = columns.map(([key, label], c) => {
    const button = element("button", { type: "button", id: `by-${c}` }, label);
    button.addEventListener("click", () => sort(key));
    const cell = element("th", { scope: "col" }, button);
    if (sorted.key === key) cell.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
    return cell;
  });
  const body = order(columns).map((k) => {
    const button = element("button", { type: "button", id: `user-${k}`, "aria-pressed": users.names[k] === chosen }, users.names[k]);
    button.addEventListener("click", () => choose(users.names[k]));
    const row = element("tr", {}, element("th", { scope: "row" }, button), ...users.columns.map(([, , cells]) => element("td", {}, cells[k])));
    if (users.names[k] === chosen) row.className = "chosen";
    return row;
  });
  box.replaceChildren(element("table", {}, element("thead", {}, element("tr", {}, ...titles)), element("tbody", {}, ...body)));
  [box.scrollTop, box.scrollLeft] = [top, left];
  if (focus) at(focus)?.focus({ preventScroll: true });
}

const SIZES = { B: 1, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 };

function worth(cell) {
  const [value, unit] = cell.replace("−", "-").replaceAll(",", "").split(" ");
  const found = Number(value) * (SIZES[unit] ?? 1);
  return isNaN(found) ? -Infinity : found;
}

function order(columns) {
  const rows = users.names.map((_, k) => k);
  const cells = columns.find(([key]) => key === sorted.key)?.[2];
  if (sorted.key === null || !cells) return rows;
  const compare = sorted.key === "" ? (a, b) => cells[a].localeCompare(cells[b]) : (a, b) => worth(cells[a]) - worth(cells[b]);
  return rows.sort((a, b) => (sorted.down ? -1 : 1) * compare(a, b) || a - b);
}

function sort(key) {
  sorted = { key, down: sorted.key === key ? !sorted.down : false };
  tellUsers();
}

function choose(name) {
  chosen = chosen === name ? null : name;
  map.show(chosen);
  power.take(users, chosen);
  tellUsers();
}

async function ask(action) {
  try {
    const answer = await fetch("api/control", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ run, action }) });
    if (!answer.ok) trouble((await answer.json()).detail);
  } catch (error) {
    trouble(`The watcher cannot be reached: ${error.message}`);
  }
}

addEventListener("DOMContentLoaded", begin);
