// Builds what is shown, and brings what stands there into line with it.
//
// Invariant: whatever came from a node is text, never markup; and what has not changed is not touched, so that it keeps its focus.

const SVG = "http://www.w3.org/2000/svg";

// An element. Attributes that are `false` or `null` are left out; children are elements, texts, or lists of them.
export const h = (tag, attributes = {}, ...children) => build(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) => build(document.createElementNS(SVG, tag), attributes, children);

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Makes the children of one element those of another.
export function become(old, now) {
  const [before, after] = [[...old.childNodes], [...now.childNodes]];
  after.forEach((node, index) => {
    const there = before[index];
    if (!there) old.append(node);
    else if (there.nodeName !== node.nodeName || there.nodeType !== node.nodeType) there.replaceWith(node);
    else if (node.nodeType === Node.TEXT_NODE) {
      if (there.data !== node.data) there.data = node.data;
    } else {
      attributes(there, node);
      become(there, node);
    }
  });
  before.slice(after.length).forEach((node) => node.remove());
}

function attributes(old, now) {
  for (const { name } of [...old.attributes]) if (!now.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of now.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
}

// A table. A column is its head, or its head and a class; a row is a list of cells.
export function table(label, columns, rows, empty = "nothing") {
  const heads = columns.map((column) => (Array.isArray(column) ? column : [column, ""]));
  const head = h("tr", {}, heads.map(([text, kind, title]) => h("th", { class: kind || null, scope: "col", title }, text)));
  const cells = (row) => row.map((cell, index) => h("td", { class: heads[index]?.[1] || null }, cell));
  const none = h("tr", {}, h("td", { class: "quiet", colspan: heads.length }, empty));
  const body = rows.length ? rows.map((row) => h("tr", row.data ?? {}, cells(row.cells ?? row))) : none;
  return h("div", { class: "scroll" }, h("table", { "aria-label": label }, h("thead", {}, head), h("tbody", {}, body)));
}

// A button that does what `actions.js` has under that name, for what its data say.
export function button(text, action, data = {}, kind = null) {
  const named = Object.fromEntries(Object.entries(data).map(([key, value]) => [`data-${key}`, value]));
  return h("button", { type: "button", class: kind, "data-do": action, ...named }, text);
}

// A word that says how something is.
export const state = (text, kind) => h("span", { class: `state ${kind}` }, text);
