// The diagram of the worker models: replays the simulation in the scene and on the time lines.

import { CLIENTS, MODELS, simulate, stateAt } from "./simulate.js";

const SVG = "http://www.w3.org/2000/svg";
const UNITS_PER_SECOND = 2.6;
const REST = 1.4; // seconds between two runs
const FIRST_SIGHT = 4; // where the replay begins when the page is opened, in units
const LANE = 26;
const STEPS = 1000;

// Top and height of a state's bar within its lane, as fractions: what works is full height.
const SHAPES = {
  backlog: [0.5, 0],
  read: [0.36, 0.28],
  queue: [0.5, 0],
  run: [0.14, 0.72],
  pause: [0.14, 0.72],
  write: [0.36, 0.28],
};

const root = document.querySelector(".waiting");
const radios = [...root.querySelectorAll("input[name=model]")];
const play = root.querySelector(".play");
const slow = root.querySelector("#slow");
const database = root.querySelector("#database");
const slider = root.querySelector("#time");
const lanes = root.querySelector(".lanes svg");
const diagram = root.querySelector(".diagram");

let runs = {};
let end = 1;
let time = 0;
let playing = false;
let before = null;

const chosen = () => radios.find((radio) => radio.checked).value;

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// Time lines

function drawLanes(svg, run, height) {
  const width = 1000;
  svg.setAttribute("viewBox", `0 0 ${width} ${height * CLIENTS.length}`);
  svg.replaceChildren();
  run.lanes.forEach((lane, row) => {
    for (const part of lane) {
      if (!(part.state in SHAPES)) continue;
      const [top, tall] = SHAPES[part.state];
      const x = (part.from / end) * width;
      const w = ((part.to - part.from) / end) * width;
      const y = (row + top) * height;
      const shape =
        tall === 0
          ? element("path", { d: `M${x} ${y}h${w}` })
          : element("rect", { x, y, width: w, height: tall * height });
      shape.setAttribute("class", "bar");
      shape.setAttribute("data-state", part.state);
      svg.append(shape);
    }
  });
  svg.append(element("path", { class: "now", d: `M0 0v${height * CLIENTS.length}` }));
}

function moveNow(svg) {
  svg.querySelector(".now").setAttribute("transform", `translate(${(time / end) * 1000} 0)`);
}

// Scene

function anchors(scene, i, at) {
  const box = (selector) => {
    const rect = scene.querySelector(selector);
    if (!rect) return null;
    const [x, y, w, h] = ["x", "y", "width", "height"].map((n) => Number(rect.getAttribute(n)));
    return { left: [x, y + h / 2], right: [x + w, y + h / 2] };
  };
  const client = root.querySelector(`.client[data-client="${i}"] circle`);
  return {
    client: [Number(client.getAttribute("cx")) + 16, Number(client.getAttribute("cy"))],
    backlog: box(".kernel"),
    hub: box("[data-hub]"),
    slot: at.slot === null ? null : box(`[data-slot="${at.slot}"]`),
  };
}

function curve([x1, y1], [x2, y2]) {
  const bend = (x2 - x1) / 2;
  return `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
}

// The connection's line, and the line of the work it causes ("" where there is none).
function linesOf(name, scene, i, at) {
  const own = MODELS[name].runner === "own";
  const place = { ...at, slot: own && at.slot === null ? (name === "single" ? 0 : i) : at.slot };
  const points = anchors(scene, i, place);
  if (at.state === "away" || at.state === "done") return ["", ""];
  if (at.state === "backlog") {
    return [curve(points.client, [points.backlog.left[0], points.client[1]]), ""];
  }
  if (own) return [curve(points.client, points.slot.left), ""];
  const busy = at.state === "run" || at.state === "pause";
  return [
    curve(points.client, points.hub.left),
    busy ? curve(points.hub.right, points.slot.left) : "",
  ];
}

function drawScene() {
  const name = chosen();
  const scene = root.querySelector(`.scene-${name}`);
  const slots = [...scene.querySelectorAll("[data-slot]")];
  for (const slot of slots) slot.removeAttribute("data-state");
  CLIENTS.forEach((_, i) => {
    const at = stateAt(runs[name].lanes[i], time);
    root.querySelector(`.client[data-client="${i}"]`).dataset.state = at.state;
    const lines = linesOf(name, scene, i, at);
    root.querySelectorAll(`.link[data-client="${i}"]`).forEach((link, which) => {
      if (!lines[which]) return link.removeAttribute("data-state");
      link.setAttribute("d", lines[which]);
      // The connection of a request that runs elsewhere is only kept.
      link.dataset.state = which === 0 && lines[1] ? "queue" : at.state;
    });
    markSlot(name, slots, i, at);
  });
}

function markSlot(name, slots, i, at) {
  const own = MODELS[name].runner === "own";
  const active = own ? ["read", "queue", "run", "pause", "write"] : ["run", "pause"];
  if (!active.includes(at.state)) return;
  const slot = own ? (name === "single" ? 0 : i) : at.slot;
  const found = slots.find((one) => one.dataset.slot === String(slot));
  found.dataset.state = at.state;
}

// Running

function show() {
  slider.value = String(Math.round((time / end) * STEPS));
  for (const svg of root.querySelectorAll(".models svg, .lanes svg")) moveNow(svg);
  drawScene();
}

function prepare() {
  const scenario = { slow: slow.checked, database: database.checked };
  runs = Object.fromEntries(Object.keys(MODELS).map((name) => [name, simulate(name, scenario)]));
  end = Math.max(...Object.values(runs).map((run) => run.end)) + 0.5;
  for (const radio of radios) {
    drawLanes(radio.parentElement.querySelector("svg"), runs[radio.value], 10);
  }
  choose();
}

function choose() {
  drawLanes(lanes, runs[chosen()], LANE);
  lanes.setAttribute("aria-label", `Time lines of six clients under ${chosen()}`);
  show();
}

function frame(stamp) {
  if (!playing) return;
  if (before !== null) time += ((stamp - before) / 1000) * UNITS_PER_SECOND;
  before = stamp;
  if (time > end + REST * UNITS_PER_SECOND) time = 0;
  show();
  requestAnimationFrame(frame);
}

function setPlaying(wanted) {
  playing = wanted;
  before = null;
  play.textContent = wanted ? "Pause" : "Play";
  if (wanted) requestAnimationFrame(frame);
}

for (const radio of radios) {
  const mini = element("svg", { preserveAspectRatio: "none", "aria-hidden": "true" });
  radio.parentElement.append(mini);
  radio.addEventListener("change", choose);
}
for (const box of [slow, database]) box.addEventListener("change", prepare);
play.addEventListener("click", () => {
  if (!playing && time >= end) time = 0;
  setPlaying(!playing);
});
slider.max = String(STEPS);
slider.addEventListener("input", () => {
  setPlaying(false);
  time = (Number(slider.value) / STEPS) * end;
  show();
});

for (const i of CLIENTS.keys()) {
  for (const _ of ["connection", "work"]) {
    diagram.querySelector(".links").append(element("path", { class: "link", "data-client": i }));
  }
}
root.classList.add("lively");
root.querySelector(".replay").hidden = false;
prepare();

// The first sight is of a moment when much is going on, moving or not.
time = FIRST_SIGHT;
show();
if (!matchMedia("(prefers-reduced-motion: reduce)").matches) {
  // It plays only while it is seen.
  const seen = new IntersectionObserver(([entry]) => setPlaying(entry.isIntersecting));
  play.addEventListener("click", () => seen.disconnect(), { once: true });
  slider.addEventListener("input", () => seen.disconnect(), { once: true });
  seen.observe(diagram);
}
