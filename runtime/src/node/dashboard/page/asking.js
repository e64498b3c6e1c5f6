// Asks the node that serves the page: calls of managers by name, and streams.
//
// Invariant: nothing waits for ever, and what went wrong is told in words.

const TOKEN = "skyhold-token";

// Why there was no answer.
export class Refusal extends Error {
  constructor(status, { error, kind, may_have_run }) {
    super(may_have_run ? `${error} (it may have run)` : error);
    Object.assign(this, { status, kind });
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (text) => sessionStorage.setItem(TOKEN, text),
};

// The manager of a node: its instance number 0.
export const manager = (node) => `${node}#0`;

// What a call of a manager's replied. An `Err` of its own is thrown as every other refusal is.
export async function call(node, method, args = [], seconds = 30) {
  const path = `/call/${encodeURIComponent(manager(node))}/${encodeURIComponent(method)}`;
  const response = await ask(path, { method: "POST", body: JSON.stringify(args), seconds });
  return unwrap(await response.json());
}

// Many calls at once. `heard(place, reply, refusal)` is told of each as its reply comes, those that fail included.
export async function calls(list, heard, seconds = 2) {
  const body = list.map(({ node, method, args = [] }) => ({ service: manager(node), method, arguments: args }));
  const response = await ask("/calls", { method: "POST", body: JSON.stringify(body), seconds });
  await lines(response, ({ call, reply, ...refusal }) => {
    try {
      if (refusal.error !== undefined) throw new Refusal(0, refusal);
      heard(call, unwrap(reply), null);
    } catch (error) {
      heard(call, undefined, error);
    }
  });
}

// Reads a stream until it ends.
export async function follow(path, heard, opened = () => {}) {
  const response = await ask(path, {});
  opened();
  await lines(response, heard);
}

async function ask(path, { method = "GET", body, seconds }) {
  const headers = {};
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (seconds !== undefined) headers.Timeout = String(seconds);
  // A little longer than the node takes to say that it was too long.
  const signal = seconds === undefined ? undefined : AbortSignal.timeout((seconds + 3) * 1000);
  const response = await fetch(path, { method, headers, body, signal, cache: "no-store" });
  if (response.ok) return response;
  const told = await response.json().catch(() => ({ error: `${response.status} ${response.statusText}` }));
  throw new Refusal(response.status, told);
}

async function lines(response, heard) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) if (part) heard(JSON.parse(part));
  }
}

function unwrap(reply) {
  const isResult = reply !== null && typeof reply === "object" && Object.keys(reply).length === 1;
  if (isResult && "Err" in reply) throw new Refusal(0, { error: sentence(reply.Err), kind: Object.keys(reply.Err)[0] });
  return isResult && "Ok" in reply ? reply.Ok : reply;
}

// An error of a manager's. Some are a sentence already.
function sentence(error) {
  const [held] = Object.values(error);
  return typeof held === "string" && held.includes(" ") ? held : words(error);
}

// A value as words: the name of what it is, and what it holds.
export function words(value) {
  if (value === null || value === undefined) return "none";
  if (typeof value !== "object") return String(value);
  if ("secs" in value) return `${(value.secs + value.nanos / 1e9).toFixed(3)} s`;
  if ("instance" in value && "node" in value) return `${value.node}#${value.instance}`;
  const entries = Object.entries(value);
  const [name, held] = entries[0] ?? ["", null];
  if (entries.length === 1 && /^[A-Z]/.test(name)) {
    const what = name.replace(/(?!^)[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
    return `${what}: ${words(held)}`;
  }
  return entries.map(([key, held]) => `${key.replaceAll("_", " ")} ${words(held)}`).join(", ");
}
