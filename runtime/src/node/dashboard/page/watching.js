// What the page knows of the cluster, asked for again and again.
//
// Invariant: a node that does not answer keeps what was last known of it, and holds up no other.

import { calls, follow } from "./asking.js";
import { EVERY, Rates, Series, failures, seconds } from "./figures.js";

const MOST_EVENTS = 500; // that are kept
const MOST_STATS = 200; // that one round asks for: with more services they take turns
const PART = 64; // questions in one request: all of them are under way at once
const OLDEST_EDGE = 120; // seconds for which who called whom is kept

export const known = {
  self: null, // the node that serves the page
  members: { members: [], has_quorum: null },
  nodes: new Map(), // by name: what each has told, and `problem` if it does not answer
  services: new Map(), // by name: `stats` by node, and a `series`
  edges: new Map(), // who waited for whom, lately
  events: [],
  listens: false,
  settings: { list: [], problem: null, history: null },
};

const rates = new Rates();
let turn = 0;

const node = (name) => {
  if (!known.nodes.has(name)) known.nodes.set(name, { instances: [], connections: [], trees: [], routes: [], problem: null });
  return known.nodes.get(name);
};

const isOwn = (service) => service.startsWith("skyhold/");

// One round. `view` says what is looked at, `changed` is told when there is something to show.
export async function look(view, changed) {
  if (known.self === null) await hear([{ node: "", method: "node", take: (report) => (known.self = report.node) }], changed);
  await hear([question(known.self, "members", (members) => (known.members = members))], changed);
  const members = known.members.members.map((member) => member.node);
  for (const name of known.nodes.keys()) if (!members.includes(name)) known.nodes.delete(name);
  const isFirst = known.services.size === 0;
  await hear([...members.flatMap((name) => ofNode(name, view)), ...(isFirst ? [] : ofServices()), ...ofSettings(view)], changed);
  if (isFirst) await hear(ofServices(), changed);
  sum();
  changed();
}

async function hear(questions, changed) {
  const heard = (place, reply, refusal) => {
    const { take, fails = () => {} } = questions[place];
    if (refusal) fails(refusal);
    else take(reply, performance.now() / 1000);
    changed();
  };
  // Part after part, so that the manager which makes all these calls has places left for others.
  for (let from = 0; from < questions.length; from += PART) {
    await calls(questions.slice(from, from + PART), (place, ...told) => heard(from + place, ...told));
  }
}

function question(on, method, take, args = []) {
  return { node: on, method, args, take };
}

function ofNode(name, view) {
  const at = node(name);
  const keep = (key) => (reply) => (at[key] = reply);
  const report = (reply, now) => {
    Object.assign(at, { report: reply, problem: null, cpu: rates.of(`cpu ${name}`, seconds(reply.process.cpu), now) });
  };
  const asked = [
    { ...question(name, "node", report), fails: (refusal) => (at.problem = refusal.message) },
  ];
  // Whoever did not answer is asked for no more than whether it does now.
  if (at.problem !== null) return asked;
  asked.push(question(name, "instances", (reply, now) => instances(at, reply, now)));
  if (view === "nodes") asked.push(question(name, "connections", (reply, now) => connections(name, at, reply, now)));
  if (view === "tree") asked.push(question(name, "tree", keep("trees")));
  if (view === "routes") asked.push(question(name, "routes", keep("routes")));
  return asked;
}

function instances(at, reply, now) {
  at.instances = reply.filter((instance) => !isOwn(instance.service));
  for (const instance of at.instances) {
    for (const wait of instance.waits) edge(instance.service, wait, now);
  }
}

// Who was seen waiting for whom.
function edge(from, { method, service, address, called, age }, now) {
  const to = service ?? (address ? `${address.node}#${address.instance}` : called.split(".")[0]);
  const key = [from, method, to, called].join("\n");
  const before = known.edges.get(key) ?? { longest: 0, rounds: new Map() };
  const rounds = new Map([...before.rounds].filter(([round]) => round > turn - 2));
  rounds.set(turn, (rounds.get(turn) ?? 0) + 1);
  known.edges.set(key, { from, method, to, called, rounds, longest: Math.max(before.longest, seconds(age)), seen: now });
}

// How many calls of that kind wait now.
export const waitingNow = (edge) => edge.rounds.get(turn) ?? edge.rounds.get(turn - 1) ?? 0;

function connections(name, at, reply, now) {
  at.connections = reply.map((connection) => {
    const of = (key) => rates.of([key, name, connection.peer, connection.number].join(" "), connection[key], now);
    return { ...connection, sent: of("bytes_sent"), received: of("bytes_received") };
  });
}

function ofServices() {
  const pairs = [...known.nodes].flatMap(([name, at]) => {
    return [...new Set(at.instances.map((instance) => instance.service))].map((service) => [name, service]);
  });
  const from = pairs.length > MOST_STATS ? (turn * MOST_STATS) % pairs.length : 0;
  const chosen = [...pairs.slice(from), ...pairs.slice(0, from)].slice(0, MOST_STATS);
  return chosen.map(([name, service]) => question(name, "stats", (reply, now) => stats(name, service, reply, now), [service]));
}

function stats(name, service, report, now) {
  if (report === null) return;
  if (!known.services.has(service)) known.services.set(service, { stats: new Map(), series: new Series() });
  const isMeasured = report.methods.length > 0;
  const total = (of) => (isMeasured ? report.methods.reduce((sum, method) => sum + of(method), 0) : null);
  const rate = (what, sum) => rates.of([what, name, service].join(" "), sum, now);
  known.services.get(service).stats.set(name, {
    ...report,
    perSecond: rate("calls", total((method) => method.calls + method.sends)),
    failing: rate("errors", total((method) => failures(method.outcomes))),
    cpu: rate("cpu", seconds(report.figures?.cpu)),
  });
}

// What the nodes have told of each service, as one point of its chart.
function sum() {
  turn += 1;
  for (const [service, about] of known.services) {
    const runs = (name) => known.nodes.get(name)?.instances.some((instance) => instance.service === service);
    for (const name of about.stats.keys()) if (!runs(name)) about.stats.delete(name);
    if (about.stats.size === 0) {
      known.services.delete(service);
      continue;
    }
    const reports = [...about.stats.values()];
    const add = (key) => {
      const told = reports.map((report) => report[key]).filter((value) => value !== null && value !== undefined);
      return told.length ? told.reduce((sum, value) => sum + value, 0) : null;
    };
    const point = ["perSecond", "failing", "cpu", "waiting", "memory"].map((key) => [key, add(key)]);
    about.series.push(Object.fromEntries(point));
  }
  const now = performance.now() / 1000;
  for (const [key, edge] of known.edges) if (now - edge.seen > OLDEST_EDGE) known.edges.delete(key);
}

function ofSettings(view) {
  if (view !== "configuration") return [];
  const { settings } = known;
  const list = question(known.self, "config_list", (reply) => Object.assign(settings, { list: reply, problem: null }), [""]);
  const asked = [{ ...list, fails: (refusal) => (settings.problem = refusal.message) }];
  if (settings.history) {
    const { key } = settings.history;
    const take = (versions) => settings.history?.key === key && (settings.history = { key, versions });
    asked.push(question(known.self, "config_history", take, [key]));
  }
  return asked;
}

// Hears what happens, for ever.
export async function listen(changed) {
  for (;;) {
    const opened = () => {
      known.listens = true;
      changed();
    };
    await follow("/events", ({ node, item }) => happened(node, item, changed), opened).catch(() => {});
    known.listens = false;
    changed();
    await new Promise((resolve) => setTimeout(resolve, EVERY * 1000));
  }
}

function happened(from, item, changed) {
  const { at = Date.now(), event = { Missed: item.Missed } } = item.Happened ?? {};
  known.events.unshift({ at, node: from, event });
  known.events.length = Math.min(known.events.length, MOST_EVENTS);
  changed();
}
