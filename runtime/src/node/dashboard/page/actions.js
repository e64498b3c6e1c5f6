// What changes something. Each is asked for once more in a dialog, which stays open with the node's words if it fails.
//
// Invariant: nothing is done that the dialog did not say.

import { call } from "./asking.js";
import { h } from "./dom.js";
import { known } from "./watching.js";

const LONG = 600; // seconds: nodes have limits of their own for how long a service may take to end

const dialog = () => document.getElementById("dialog");
const all = () => known.members.members.map((member) => member.node);
const withService = (service) => [...(known.services.get(service)?.stats.keys() ?? [])].sort();

// Tells for a while what was done.
function tell(text) {
  const done = document.getElementById("done");
  done.textContent = text;
  done.hidden = false;
  clearTimeout(tell.timer);
  tell.timer = setTimeout(() => (done.hidden = true), 6000);
}

function field({ name, label, value = "", options, rows, ...attributes }) {
  const choices = options?.map(([value, text]) => h("option", { value }, text));
  const input = options ? h("select", { name }, choices) : rows ? h("textarea", { name, rows, spellcheck: "false" }, value) : h("input", { name, value, autocomplete: "off", ...attributes });
  return h("label", {}, h("span", {}, label), input);
}

// Asks, and does it. `run` gets the values of the fields, and gives what was done in words.
export function confirm({ title, text, fields = [], ok, isDangerous = false, run, gone = () => {} }) {
  const problem = h("p", { class: "bad", role: "alert", hidden: true });
  const yes = h("button", { type: "submit", class: isDangerous ? "danger solid" : "solid" }, ok);
  const no = h("button", { type: "button" }, "Cancel");
  const lines = [text].flat().filter(Boolean).map((line) => (typeof line === "string" ? h("p", {}, line) : line));
  const form = h("form", {}, h("h2", {}, title), lines, fields.map(field), problem, h("div", { class: "buttons" }, no, yes));
  const box = dialog();
  let isDone = false;
  no.addEventListener("click", () => box.close());
  box.onclose = () => isDone || gone();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    yes.disabled = true;
    problem.hidden = true;
    try {
      const said = await run(Object.fromEntries(new FormData(form)));
      isDone = true;
      box.close();
      if (said) tell(said);
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    }
    yes.disabled = false;
  });
  box.replaceChildren(form);
  if (!box.open) box.showModal();
}

// Where to do it.
const place = (nodes, what = "all nodes that have it") => ({ name: "on", label: "On", options: [...(nodes.length > 1 ? [["", `${what} (${nodes.join(", ")})`]] : []), ...nodes.map((name) => [name, name])] });
const chosen = (on, nodes) => (on ? [on] : nodes);

// On all of these nodes at once. What failed on some is told with what went well on others.
async function onAll(nodes, ask, done) {
  const answers = await Promise.allSettled(nodes.map(ask));
  const failed = answers.flatMap(({ reason }, index) => (reason ? [`${nodes[index]}: ${reason.message}`] : []));
  const went = nodes.filter((_, index) => answers[index].status === "fulfilled" && answers[index].value !== false);
  if (failed.length) throw new Error(failed.join("\n") + (went.length ? `\nDone on ${went.join(", ")}.` : ""));
  if (!went.length) throw new Error(`it is not on ${nodes.join(", ")}`);
  return `${done} on ${went.join(", ")}`;
}

function simple(service, { title, text, ok, method, done, isDangerous }) {
  const nodes = withService(service);
  const run = ({ on }) => onAll(chosen(on, nodes), (name) => call(name, method, [service], LONG), `${service} ${done}`);
  confirm({ title, text, fields: [place(nodes)], ok, isDangerous, run });
}

export const actions = {
  stop: ({ service }) => simple(service, { title: `Stop ${service}?`, text: "What is queued is not run any more.", ok: "Stop", method: "stop", done: "stopped", isDangerous: true }),

  drain: ({ service }) => simple(service, { title: `Drain ${service}?`, text: "What is queued is run, and then it ends. Its callers go elsewhere.", ok: "Drain", method: "drain", done: "drained", isDangerous: true }),

  restart({ service }) {
    const nodes = withService(service);
    const pace = { name: "pace", label: "How", options: [["Rolling", "one instance after the other, node by node"], ["AtOnce", "all at once"]] };
    const one = (pace) => (name) => call(name, "restart", [service, pace], LONG);
    const run = async ({ on, pace }) => {
      const places = chosen(on, nodes);
      if (pace === "AtOnce") return onAll(places, one(pace), `${service} restarted`);
      // So that as many as possible are there at any time. It ends with the first that fails.
      for (const name of places) await onAll([name], one(pace), "");
      return `${service} restarted on ${places.join(", ")}`;
    };
    confirm({ title: `Restart ${service}?`, text: "Each instance begins another life at the same address.", fields: [place(nodes), pace], ok: "Restart", run });
  },

  restartInstance({ node, instance }) {
    const run = () => onAll([node], () => call(node, "restart_instance", [Number(instance)], LONG), `${node}#${instance} restarted`);
    confirm({ title: `Restart ${node}#${instance}?`, text: "It begins another life at the same address.", ok: "Restart", run });
  },

  scale({ service }) {
    const nodes = withService(service);
    const count = { name: "count", label: "Instances on each", type: "number", min: 0, max: 100000, required: true, value: known.services.get(service)?.stats.get(nodes[0])?.instances ?? 1 };
    const run = ({ on, count }) => onAll(chosen(on, nodes), (name) => call(name, "scale", [service, Number(count)], LONG), `${service} has ${count} instances`);
    confirm({ title: `Scale ${service}`, text: "More are started, or the last ones are drained.", fields: [place(nodes), count], ok: "Scale", run });
  },

  start() {
    const nodes = all();
    const fields = [
      { name: "kind", label: "Kind", required: true },
      { name: "name", label: "Name", required: true },
      { name: "count", label: "Instances", type: "number", min: 1, max: 100000, required: true, value: 1 },
      { name: "config", label: "Configuration, as TOML", rows: 4 },
      { ...place(nodes, "all members"), options: [...nodes.map((name) => [name, name]), ["", "all members"]] },
    ];
    const run = ({ kind, name, count, config, on }) => onAll(chosen(on, nodes), (node) => call(node, "start", [kind, name, Number(count), config], LONG), `${name} started`);
    confirm({ title: "Start a service", text: "Of a kind that the program of the node knows.", fields, ok: "Start", run });
  },

  async reload() {
    const nodes = all();
    const answers = await Promise.allSettled(nodes.map((name) => call(name, "prepare_reload")));
    const plans = answers.flatMap(({ value }, index) => (value ? [{ node: nodes[index], ...value }] : []));
    const others = answers.flatMap(({ reason }, index) => (reason ? [`${nodes[index]}: ${unread(reason)}`] : []));
    const changing = plans.filter((plan) => plan.reload.changes.length);
    const line = ({ key, old, new: now, effect }) => h("li", {}, h("code", {}, key), ` from ${old ?? "nothing"} to ${now ?? "nothing"} `, h("span", { class: "quiet" }, EFFECTS[effect] ?? effect));
    const shown = changing.map(({ node, reload }) => h("section", {}, h("h3", {}, node), h("ul", {}, reload.changes.map(line))));
    const same = plans.filter((plan) => !plan.reload.changes.length).map((plan) => plan.node);
    const text = [...shown, same.length ? `Nothing has changed on ${same.join(", ")}.` : null, ...others];
    const discard = () => plans.forEach(({ node, number }) => call(node, "discard_reload", [number]).catch(() => {}));
    const commit = async (node) => {
      const { failed } = await call(node, "commit_reload", [numbers.get(node)], LONG);
      if (failed?.length) throw new Error(failed.map(({ service, problem }) => `${service} is not as the file says: ${problem}`).join("; "));
    };
    const numbers = new Map(changing.map(({ node, number }) => [node, number]));
    const run = () => (numbers.size ? onAll([...numbers.keys()], commit, "Reloaded") : discard());
    confirm({ title: "Reload configuration files", text, ok: numbers.size ? "Put in force" : "Close", run, gone: discard });
  },

  async edit({ key }) {
    const setting = key === undefined ? null : known.settings.list.find((setting) => setting.key === key);
    const expected = setting?.version ?? 0;
    const named = key === undefined ? [{ name: "key", label: "Key", required: true }] : [];
    const run = async (values) => {
      const version = await call(known.self, "config_set", [key ?? values.key, values.text, expected], LONG);
      return `${key ?? values.key} has the version ${version}`;
    };
    const text = setting ? `It is written only if it still has the version ${expected}.` : "It is written only if it is not set yet.";
    confirm({ title: key ?? "New setting", text, fields: [...named, { name: "text", label: "Value, as TOML", rows: 10, value: setting?.value ?? "" }], ok: "Set", run });
  },

  erase({ key }) {
    const expected = known.settings.list.find((setting) => setting.key === key)?.version ?? null;
    const run = async () => `${key} deleted, version ${await call(known.self, "config_delete", [key, expected], LONG)}`;
    confirm({ title: `Delete ${key}?`, text: "Its history stays.", ok: "Delete", isDangerous: true, run });
  },

  rollBack({ key, version }) {
    const run = async () => `${key} has the version ${await call(known.self, "config_rollback", [key, Number(version)], LONG)}`;
    confirm({ title: `Roll ${key} back to version ${version}?`, text: "Its value becomes the newest version.", ok: "Roll back", run });
  },
};

const unread = ({ kind, message }) => (kind === "NoFile" ? "was not started from a file" : message);

const EFFECTS = { Live: "live", NewConnections: "for connections to come", Restart: "needs a restart" };
