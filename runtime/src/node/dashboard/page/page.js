// The page: which view is shown, what is asked for, and what is told when nobody answers.
//
// Invariant: it goes on asking, whatever happens.

import { actions, confirm } from "./actions.js";
import { token } from "./asking.js";
import { become, h } from "./dom.js";
import { EVERY } from "./figures.js";
import * as views from "./views.js";
import { known, listen, look } from "./watching.js";

const TABS = { nodes: "Nodes", services: "Services", tree: "Supervision", calls: "Calls", events: "Events", configuration: "Configuration", routes: "Routes" };

const at = (id) => document.getElementById(id);
let wake = () => {};
let isDrawing = false;

// The view and what it is about, by the address.
function place() {
  const [view, ...name] = location.hash.slice(1).split("/");
  return { view: view in TABS ? view : "nodes", name: name.length ? decodeURIComponent(name.join("/")) : undefined };
}

function draw() {
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(() => {
    isDrawing = false;
    const { view, name } = place();
    const tabs = Object.entries(TABS).map(([key, text]) => h("a", { href: `#${key}`, "aria-current": key === view ? "page" : null }, text));
    become(at("tabs"), h("nav", {}, tabs));
    if (known.self === null) return;
    become(at("view"), h("main", {}, views[view](name)));
    at("served").textContent = `by node ${known.self}`;
    document.title = `${TABS[view]} – Skyhold`;
  });
}

function turned() {
  const { view, name } = place();
  const isKey = view === "configuration" && name !== undefined;
  if (!isKey) known.settings.history = null;
  else if (known.settings.history?.key !== name) known.settings.history = { key: name };
  draw();
  wake();
}

function problem(text) {
  at("problem").hidden = text === null;
  at("problem").textContent = text ?? "";
  document.body.classList.toggle("stale", text !== null);
}

// Asks for the token. It is kept for as long as the tab is open.
function askForToken() {
  const text = token.get() ? "This token is not the right one." : "This page needs the node's token.";
  return new Promise((resolve) => {
    const fields = [{ name: "token", label: "Token", type: "password", required: true }];
    const run = ({ token: said }) => resolve(token.set(said));
    confirm({ title: "Token", text, fields, ok: "Go on", run, gone: resolve });
  });
}

async function watch() {
  let listens = false;
  for (;;) {
    const began = performance.now();
    try {
      await look(place().view, draw);
      problem(null);
      if (!listens) listen(draw);
      listens = true;
    } catch (error) {
      if (error.status === 401) {
        await askForToken();
        continue;
      }
      const isSaid = error.status !== undefined;
      problem(isSaid ? error.message : "The node that serves this page does not answer. Trying again …");
    }
    const pause = Math.max(EVERY * 1000 - (performance.now() - began), 100);
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, pause);
      wake = () => (clearTimeout(timer), resolve());
    });
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do]");
  if (!button) return;
  const { do: action, ...data } = button.dataset;
  Promise.resolve(actions[action](data)).catch((error) => problem(error.message));
});
at("dialog").addEventListener("close", () => wake());
window.addEventListener("hashchange", turned);
turned();
watch();
