// How what is known is shown, view by view.
//
// Invariant: a view only reads. What changes something is a button, which names an action.

import { words } from "./asking.js";
import { button, h, state, svg, table } from "./dom.js";
import { bytes, failures, number, percent, seconds, sparkline, time } from "./figures.js";
import { known, waitingNow } from "./watching.js";

const NUMBER = "number";
const address = ({ node, instance }) => `${node}#${instance}`;
const names = () => [...known.services.keys()].sort();
const link = (view, name) => h("a", { href: `#${view}/${encodeURIComponent(name)}` }, name);
const [clock, day] = ["toLocaleTimeString", "toLocaleString"].map((form) => (millis) => new Date(millis)[form]("sv")); // 2026-01-31 17:05:00
const bar = (title, ...buttons) => h("div", { class: "bar" }, h("h2", {}, title), h("div", { class: "buttons" }, buttons));

export function nodes() {
  const { members, has_quorum, expected } = known.members;
  const rows = members.map((member) => {
    const at = known.nodes.get(member.node) ?? {};
    const { report } = at;
    const says = at.problem ? state("no answer", "bad") : state(member.state.toLowerCase(), member.state === "Alive" ? "good" : "warn");
    const labels = report?.labels.map(([key, value]) => h("span", { class: "label" }, `${key}=${value}`));
    const data = { "data-node": member.node, title: at.problem };
    const process = [percent(at.cpu), bytes(report?.process.resident), number(report?.process.threads)];
    const runs = [number(at.instances?.length), number(report?.peers.length)];
    return { data, cells: [member.node, [says, report?.is_shutting_down ? state("leaving", "warn") : null], member.address ?? "–", labels, ...process, ...runs] };
  });
  const columns = ["Node", "State", "Address", "Labels", ["Processor", NUMBER, "of its process; 100 % is one processor"], ["Memory", NUMBER, "of its process"]];
  const quorum = expected > 0 && !has_quorum ? state("no quorum", "bad") : null;
  const unclear = members.filter((member) => known.nodes.get(member.node)?.problem);
  return [
    bar(["Nodes ", quorum], button("Reload configuration …", "reload"), button("Start a service …", "start")),
    table("Nodes", [...columns, ["Threads", NUMBER], ["Instances", NUMBER], ["Peers", NUMBER]], rows),
    unclear.map((member) => h("p", { class: "bad" }, `${member.node}: ${known.nodes.get(member.node).problem}`)),
    bar("Connections"),
    connections(),
  ];
}

function connections() {
  const rows = [...known.nodes].sort().flatMap(([name, { connections }]) => {
    return connections.map((connection) => {
      const queued = Object.values(connection.queue).reduce((sum, lane) => sum + lane, 0);
      const traffic = [connection.sent, connection.received].map((rate) => (rate === null ? "–" : `${bytes(rate)}/s`));
      const counts = [connection.calls, connection.served, connection.without_credit, connection.reconnects].map(number);
      const round = connection.round_trip ? time(seconds(connection.round_trip)) : h("span", { class: "bad" }, "no answer");
      return [name, connection.peer, round, ...traffic, bytes(queued), ...counts, time(seconds(connection.age))];
    });
  });
  const columns = ["From", "To", ["Round trip", NUMBER], ["Sent", NUMBER], ["Received", NUMBER], ["Queued", NUMBER], ["Calls", NUMBER, "of the one to the other that wait for their replies"]];
  const more = [["Served", NUMBER, "calls of the other that wait here"], ["No credit", NUMBER, "instances that take no more for the moment"], ["Reconnects", NUMBER], ["Age", NUMBER]];
  return table("Connections", [...columns, ...more], rows);
}

// What all nodes have told of one service.
function about(name) {
  const { stats, series } = known.services.get(name);
  const reports = [...stats.values()];
  const sum = (of) => reports.reduce((sum, report) => sum + of(report), 0);
  const methods = merged(reports.flatMap((report) => report.methods));
  const capacity = [...known.nodes.values()].flatMap((at) => at.instances).filter((instance) => instance.service === name);
  return {
    name, series, methods,
    nodes: [...stats.keys()].sort(),
    instances: sum((report) => report.instances),
    restarts: sum((report) => report.restarts),
    capacity: capacity.reduce((sum, instance) => sum + instance.capacity, 0),
    ...typical(methods),
  };
}

// One method of all nodes: counts are sums, the middle is weighed by how often, of what is long the longest is kept.
function merged(methods) {
  const by = new Map();
  for (const method of methods) by.set(method.method, [...(by.get(method.method) ?? []), method]);
  return [...by].map(([name, all]) => {
    const sum = (of) => all.reduce((sum, method) => sum + of(method), 0);
    const took = typical(all.map((method) => ({ ...of(method.handler), calls: method.calls + method.sends })));
    const waited = typical(all.map((method) => ({ ...of(method.sojourn), calls: method.calls + method.sends })));
    const calls = sum((method) => method.calls);
    const sends = sum((method) => method.sends);
    return { name, calls, sends, running: sum((method) => method.in_flight), failed: sum((method) => failures(method.outcomes)), ...took, waited: waited.p99 };
  });
}

const of = (latency) => ({ p50: seconds(latency?.p50), p99: seconds(latency?.p99), max: seconds(latency?.max) });

function typical(all) {
  const told = all.filter((one) => one.p50 !== null && one.p50 !== undefined);
  const weight = told.reduce((sum, one) => sum + one.calls, 0);
  if (!told.length) return { p50: null, p99: null, max: null };
  const p50 = weight ? told.reduce((sum, one) => sum + one.p50 * one.calls, 0) / weight : told[0].p50;
  return { p50, p99: Math.max(...told.map((one) => one.p99)), max: Math.max(...told.map((one) => one.max)) };
}

const steer = (service, ...actions) => actions.map((action) => {
  return button(action[0].toUpperCase() + action.slice(1), action, { service }, action === "stop" ? "danger" : null);
});

export function services(name) {
  if (name !== undefined) return service(name);
  const rows = names().map((name) => {
    const { series, instances, capacity, nodes, p50, p99, restarts } = about(name);
    const { perSecond, failing, waiting, memory } = series.last;
    const chart = (measure, show) => h("span", { class: "charted" }, sparkline(series, measure, show), h("b", {}, show(series.last[measure])));
    const failed = failing ? h("span", { class: "bad" }, number(failing)) : number(failing);
    const cells = [link("services", name), number(instances), h("span", { class: "nodes", title: nodes.join(" ") }, nodes.join(" ")), `${number(waiting)} / ${number(capacity)}`, chart("perSecond", number), failed, time(p50), time(p99), chart("cpu", percent), bytes(memory), number(restarts)];
    return { data: { "data-service": name, "data-rate": perSecond }, cells: [...cells, h("span", { class: "buttons" }, steer(name, "restart", "stop"))] };
  });
  const columns = ["Service", ["Instances", NUMBER], "Nodes", ["Mailboxes", NUMBER, "messages that wait, and how many may"], ["Calls /s", NUMBER, "with sends; two minutes"], ["Errors /s", NUMBER]];
  const times = [["p50", NUMBER, "since the start, over its methods"], ["p99", NUMBER, "since the start, of its slowest method"], ["Processor", NUMBER, "100 % is one processor; two minutes"], ["Memory", NUMBER], ["Restarts", NUMBER], ["", "last"]];
  return [bar("Services", button("Start a service …", "start")), table("Services", [...columns, ...times], rows, "no services")];
}

function service(name) {
  if (!known.services.has(name)) return [bar(name), h("p", { class: "quiet" }, `No node runs ${name} now.`)];
  const { series, methods } = about(name);
  const figures = [["perSecond", "Calls /s", number], ["failing", "Errors /s", number], ["waiting", "Messages waiting", number], ["cpu", "Processor", percent], ["memory", "Memory", bytes]];
  const charts = figures.map(([measure, title, show]) => {
    return h("figure", {}, h("figcaption", {}, title, h("b", {}, show(series.last[measure]))), sparkline(series, measure, show, { width: 220, height: 56 }));
  });
  const rows = methods.map((method) => {
    const counts = [method.calls, method.sends, method.running, method.failed].map(number);
    return [method.name, ...counts, ...[method.p50, method.p99, method.max, method.waited].map(time)];
  });
  const heads = ["Calls", "Sends", "Running", "Errors", "p50", "p99", "Longest", "Waited p99"].map((head) => [head, NUMBER]);
  return [
    h("p", { class: "path" }, h("a", { href: "#services" }, "Services"), " / ", name),
    bar(name, steer(name, "restart", "scale", "drain", "stop")),
    h("div", { class: "charts" }, charts),
    h("h3", {}, "Methods"),
    table("Methods", ["Method", ...heads], rows, "nothing is measured"),
    h("h3", {}, "Instances"),
    instances(name),
  ];
}

function instances(name) {
  const all = [...known.nodes].sort().flatMap(([, at]) => at.instances).filter((instance) => instance.service === name);
  const rows = all.map((instance) => {
    const { figures, handlers, waits } = instance;
    const runs = handlers[0] ? `${handlers[0].method} ${time(seconds(handlers[0].age))}${handlers.length > 1 ? ` +${handlers.length - 1}` : ""}` : "";
    const wait = waits[0] ? `${waits[0].called} ${waits[0].address ? `@${address(waits[0].address)}` : ""} ${time(seconds(waits[0].age))}` : "";
    const counts = [`${number(instance.waiting)} / ${number(instance.capacity)}`, number(figures?.most_waiting), number(figures && figures.calls + figures.sends), number(figures && failures(figures.outcomes)), time(seconds(figures?.cpu)), number(instance.restarts)];
    const data = { "data-instance": address(instance.address) };
    return { data, cells: [address(instance.address), ...counts, runs, wait, button("Restart", "restartInstance", { node: instance.address.node, instance: instance.address.instance })] };
  });
  const heads = ["Mailbox", "Most", "Messages", "Errors", "Processor", "Restarts"].map((head) => [head, NUMBER]);
  return table("Instances", ["Instance", ...heads, "Runs", "Waits for", ["", "last"]], rows);
}

export function tree() {
  const branch = ({ name, strategy, address: place, state: does, restarts, children }) => {
    const kind = { Up: "good", Starting: "warn", Stopping: "warn", Down: "bad" }[does];
    const text = [h("span", { class: "name" }, place ? address(place) : name), strategy ? h("span", { class: "label" }, strategy) : null, state(does.toLowerCase(), kind)];
    const again = restarts ? h("span", { class: "quiet" }, `${restarts} restart${restarts === 1 ? "" : "s"}`) : null;
    return h("li", {}, text, again, children.length ? h("ul", {}, children.map(branch)) : null);
  };
  const of = ([name, at]) => {
    const problem = at.problem ? h("p", { class: "bad" }, at.problem) : null;
    const trees = at.trees.length ? h("ul", { class: "tree" }, at.trees.map(branch)) : h("p", { class: "quiet" }, "supervises nothing");
    return h("section", {}, h("h3", {}, name), problem, trees);
  };
  return [bar("Supervision"), h("div", { class: "columns" }, [...known.nodes].sort().map(of))];
}

export function calls() {
  const edges = [...known.edges.values()].sort((one, other) => waitingNow(other) - waitingNow(one) || other.seen - one.seen);
  const now = performance.now() / 1000;
  const rows = edges.map((edge) => {
    return [edge.from, edge.method, edge.to, edge.called, number(waitingNow(edge)), time(edge.longest), now - edge.seen < 3 ? "now" : `${time(Math.round(now - edge.seen))} ago`];
  });
  const columns = ["Caller", "In its method", "Called", "As", ["Waiting", NUMBER], ["Longest seen", NUMBER], ["Seen", NUMBER]];
  const hint = "Each look at the nodes finds the calls that wait at that moment, so short ones are seen by chance.";
  return [bar("Who calls whom"), h("p", { class: "quiet" }, hint), graph(edges), table("Calls", columns, rows, "no service was seen waiting for another in the last two minutes")];
}

// The services on a circle, with an arrow from each that was seen waiting for another.
function graph(edges) {
  const pairs = new Map(edges.map((edge) => [`${edge.from}\n${edge.to}`, edge]));
  const all = [...new Set(edges.flatMap(({ from, to }) => [from, to]))].sort();
  if (all.length === 0 || all.length > 40) return null;
  const [width, height] = [760, Math.min(120 + all.length * 24, 420)];
  const place = (name) => {
    const turn = (all.indexOf(name) / all.length) * 2 * Math.PI + Math.PI;
    return [width / 2 + Math.cos(turn) * (width / 2 - 110), height / 2 + Math.sin(turn) * (height / 2 - 26)];
  };
  const wide = (name) => name.length * 7.4 + 18;
  const arrow = ({ from, to }) => {
    const [[x, y], [u, v]] = [place(from), place(to)];
    const isNow = edges.some((edge) => edge.from === from && edge.to === to && waitingNow(edge));
    const middle = [(x + u) / 2 - (v - y) * 0.08, (y + v) / 2 + (u - x) * 0.08];
    // Where it meets the box of the one that is called.
    const [across, down] = [middle[0] - u || 1e-9, middle[1] - v || 1e-9];
    const share = Math.min((wide(to) / 2 + 3) / Math.abs(across), 16 / Math.abs(down));
    const end = [u + across * share, v + down * share];
    const d = from === to ? `M${x - 20} ${y - 12}C${x - 44} ${y - 52} ${x + 44} ${y - 52} ${x + 20} ${y - 14}` : `M${x} ${y}Q${middle.join(" ")} ${end.join(" ")}`;
    return svg("path", { class: isNow ? "edge now" : "edge", d, "marker-end": "url(#arrow)" });
  };
  const box = (name) => {
    const [x, y] = place(name);
    return svg("g", {}, svg("rect", { x: x - wide(name) / 2, y: y - 13, width: wide(name), height: 26, rx: 5 }), svg("text", { x, y: y + 4, "text-anchor": "middle" }, name));
  };
  const marker = svg("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, svg("path", { d: "M0 0L8 4L0 8Z" }));
  return svg("svg", { class: "graph", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Who calls whom" }, svg("defs", {}, marker), [...pairs.values()].map(arrow), all.map(box));
}

const FAILURES = ["PeerDown", "MemberSuspected", "MemberDied", "QuorumLost", "GaveUp", "StuckHandler", "ConfigRefused", "PeerRefused", "DeadLetter", "NameLost", "Missed"];

export function events() {
  const rows = known.events.map(({ at, node, event }) => {
    const [name, held] = typeof event === "string" ? [event, {}] : Object.entries(event)[0];
    const ended = name === "InstanceEnded" && typeof held.reason === "object";
    return { data: { "data-event": name }, cells: [clock(at), node, state(name.replace(/(?!^)[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`), FAILURES.includes(name) || ended ? "bad" : ""), words(held)] };
  });
  const since = known.listens ? "as they happen, on all members" : "not connected";
  return [bar(["Events ", h("small", { class: "quiet" }, since)]), table("Events", ["Time", "Node", "What", "Of what"], rows, "nothing has happened since this page was opened")];
}

export function configuration(key) {
  const { list, problem, history } = known.settings;
  const failed = problem ? h("p", { class: "bad" }, problem) : null;
  const value = ({ value }) => (value === null ? h("span", { class: "quiet" }, "deleted") : h("pre", {}, value));
  const when = ({ at }) => day(at.secs_since_epoch * 1000);
  if (key !== undefined) {
    const versions = history?.key === key ? history.versions ?? [] : [];
    const rows = versions.map((version, index) => [number(version.version), value(version), version.by, when(version), index > 0 && version.value !== null ? button("Roll back …", "rollBack", { key, version: version.version }) : index === 0 ? state("in force", "good") : ""]);
    const path = h("p", { class: "path" }, h("a", { href: "#configuration" }, "Configuration"), " / ", key);
    return [path, bar(key, button("Edit …", "edit", { key })), failed, table("History", [["Version", NUMBER], "Value", "By", "At", ["", "last"]], rows, "no version is kept")];
  }
  const rows = list.map((setting) => {
    const buttons = [button("Edit", "edit", { key: setting.key }), button("Delete", "erase", { key: setting.key }, "danger")];
    return { data: { "data-key": setting.key }, cells: [link("configuration", setting.key), value(setting), number(setting.version), setting.by, when(setting), h("span", { class: "buttons" }, buttons)] };
  });
  return [bar("Configuration", button("New setting …", "edit")), failed, table("Configuration", ["Key", "Value", ["Version", NUMBER], "By", "At", ["", "last"]], rows, "nothing is set")];
}

export function routes() {
  const of = ([name, { routes, problem }]) => {
    const rules = routes.length ? h("ol", {}, routes.map((rule) => h("li", {}, h("code", {}, rule)))) : h("p", { class: "quiet" }, "no rules: every call goes to any instance of its name");
    return h("section", {}, h("h3", {}, name), problem ? h("p", { class: "bad" }, problem) : null, rules);
  };
  return [bar("Routes"), [...known.nodes].sort().map(of)];
}
