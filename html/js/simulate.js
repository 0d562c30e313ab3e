// What six clients see under each worker model: a small simulation, pure, without the page.
//
// Schematic, not measured. Time is in arbitrary units. What is modelled: who accepts, who waits,
// where the application runs, and that the threads of one Python process share its interpreter
// lock, so that only one of them computes at a time.

export const CLIENTS = ["A", "B", "C", "D", "E", "F"];

// holds: how many connections are held at once.
// runner: where the application runs: with its connection ("own"), in the loop, or in a pool.
// lock: who computes at the same time: threads share ("shared"), greenlets take turns and let
//   nothing else happen meanwhile ("turns"), processes do not care ("none").
// pool: size of the pool, as drawn.
export const MODELS = {
  single: { holds: 1, runner: "own", lock: "shared" },
  process: { holds: Infinity, runner: "own", lock: "none" },
  thread: { holds: Infinity, runner: "own", lock: "shared" },
  nonblocking: { holds: Infinity, runner: "loop", lock: "shared" },
  epoll: { holds: Infinity, runner: "loop", lock: "shared" },
  gevent: { holds: Infinity, runner: "own", lock: "turns" },
  threadpool: { holds: Infinity, runner: "pool", lock: "shared", pool: 4 },
  processpool: { holds: Infinity, runner: "pool", lock: "none", pool: 4 },
};

const CORES = 4;
const TICK = 0.05;
const QUICK = 0.9; // sending a request, and receiving the answer
const SLOW = 9; // sending it through a thin line
const LIMIT = 60;

// The application's work for one request: [kind, units]; "run" computes, "pause" waits for others.
const COMPUTES = [["run", 2.4]];
const ASKS_A_DATABASE = [["run", 0.5], ["pause", 2], ["run", 0.4]];

/**
 * Run the six clients under one model.
 * @param {string} name a key of MODELS
 * @param {{slow: boolean, database: boolean}} scenario whether A sends slowly, and whether the
 *   application waits for a database or computes
 * @returns {{end: number, lanes: Array<Array<{state: string, slot: number|null, from: number,
 *   to: number}>>}} for each client, its states one after the other
 */
export function simulate(name, scenario) {
  const model = MODELS[name];
  const work = scenario.database ? ASKS_A_DATABASE : COMPUTES;
  const clients = CLIENTS.map((_, index) => ({
    index,
    arrival: 0.4 + index * 0.7,
    sending: index === 0 && scenario.slow ? SLOW : QUICK,
    state: "away",
    left: 0,
    phase: 0,
    slot: null,
    lane: [],
  }));
  let now = 0;
  while (now < LIMIT && clients.some((client) => client.state !== "done")) {
    for (const client of clients) settle(client, clients, model, work, now);
    spend(clients, model);
    for (const client of clients) record(client, now);
    now += TICK;
  }
  return { end: now, lanes: clients.map((client) => client.lane) };
}

const isRunning = (client) => client.state === "run" || client.state === "pause";
const isHeld = (client) => ["read", "queue", "run", "pause", "write"].includes(client.state);

// All the steps that one client can take at this moment.
function settle(client, ...circumstances) {
  let before;
  do {
    before = client.state;
    advance(client, ...circumstances);
  } while (client.state !== before);
}

// At most one step of one client, given what the others do.
function advance(client, clients, model, work, now) {
  const computing = clients.some((other) => other.state === "run");
  const deaf = model.runner === "loop" ? clients.some(isRunning) : model.lock === "turns" && computing;
  const over = client.left <= 0;
  switch (client.state) {
    case "away":
      if (now >= client.arrival) client.state = "backlog";
      break;
    case "backlog":
      if (!deaf && clients.filter(isHeld).length < model.holds) enter(client, "read", client.sending);
      break;
    case "read":
      if (over && !deaf) client.state = "queue";
      break;
    case "queue":
      client.slot ??= freeSlot(client, clients, model);
      if (client.slot !== null) proceed(client, model, work, computing);
      break;
    case "run":
    case "pause":
      if (!over) break;
      client.phase += 1;
      if (client.phase === work.length) enter(client, "write", QUICK);
      else proceed(client, model, work, computing);
      break;
    case "write":
      if (over) client.state = "done";
  }
}

function proceed(client, model, work, computing) {
  const [kind, units] = work[client.phase];
  if (kind === "run" && model.lock === "turns" && computing) client.state = "queue";
  else enter(client, kind, units);
}

function enter(client, state, units) {
  client.state = state;
  client.left = units;
}

function freeSlot(client, clients, model) {
  if (model.runner === "own") return model.holds === 1 ? 0 : client.index;
  const size = model.runner === "loop" ? 1 : model.pool;
  const taken = new Set(clients.filter(isRunning).map((other) => other.slot));
  for (let slot = 0; slot < size; slot += 1) if (!taken.has(slot)) return slot;
  return null;
}

// One tick of network time for everyone, and of computing as the lock and the cores allow.
function spend(clients, model) {
  const computing = clients.filter((client) => client.state === "run").length;
  const share = model.lock === "none" ? Math.min(1, CORES / computing) : 1 / computing;
  for (const client of clients) client.left -= client.state === "run" ? TICK * share : TICK;
}

function record(client, now) {
  const last = client.lane.at(-1);
  const slot = client.slot;
  if (last && last.state === client.state && last.slot === slot) last.to = now + TICK;
  else client.lane.push({ state: client.state, slot, from: now, to: now + TICK });
}

/** The state of a lane at a time: {state, slot}. */
export function stateAt(lane, time) {
  return lane.find((part) => time < part.to) ?? { state: "done", slot: null };
}
