// Numbers: how they are written, and how they have gone in the last two minutes.
//
// Invariant: what nobody has told is `null`, and is written as a dash.

import { svg } from "./dom.js";

// How many points a chart has, and the seconds between two: two minutes.
export const POINTS = 60;
export const EVERY = 2;

export const seconds = (duration) => (duration ? duration.secs + duration.nanos / 1e9 : null);

export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(1)} k`;
  return value >= 100 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(1);
}

export function time(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 86400) return `${(value / 86400).toFixed(1)} d`;
  if (value >= 3600) return `${(value / 3600).toFixed(1)} h`;
  if (value >= 100) return `${(value / 60).toFixed(1)} min`;
  if (value >= 1) return `${value.toFixed(1)} s`;
  return value >= 1e-3 ? `${(value * 1e3).toFixed(1)} ms` : `${Math.round(value * 1e6)} µs`;
}

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const unit = value < 1 ? 0 : Math.min(Math.floor(Math.log2(value) / 10), units.length - 1);
  return `${unit === 0 ? Math.round(value) : (value / 1024 ** unit).toFixed(1)} ${units[unit]}`;
}

export const percent = (share) => (share === null || share === undefined ? "–" : `${(share * 100).toFixed(1)} %`);

// What did not end with a value.
export const failures = ({ done, ...others }) => Object.values(others).reduce((sum, count) => sum + count, 0);

// How fast sums grow, by name. A sum that went down belongs to something new.
export class Rates {
  #last = new Map();

  of(name, sum, now) {
    const last = this.#last.get(name);
    this.#last.set(name, { sum, now });
    if (sum === null || !last || last.sum === null || now <= last.now || sum < last.sum) return null;
    return (sum - last.sum) / (now - last.now);
  }
}

// The last points of one thing, by the name of what was measured.
export class Series {
  points = [];

  push(point) {
    this.points.push(point);
    if (this.points.length > POINTS) this.points.shift();
  }

  get last() {
    return this.points.at(-1) ?? {};
  }
}

// A line of one measure, from the left as it was two minutes ago to the right as it is.
export function sparkline(series, measure, show, { width = 72, height = 18 } = {}) {
  const values = series.points.map((point) => point[measure] ?? null);
  const known = values.filter((value) => value !== null);
  const top = Math.max(...known, 0) || 1;
  const place = (value, index) => {
    const x = width - (values.length - 1 - index) * (width / (POINTS - 1));
    return `${x.toFixed(1)},${(height - 1.5 - (value / top) * (height - 3)).toFixed(1)}`;
  };
  const points = values.map((value, index) => (value === null ? null : place(value, index))).filter(Boolean);
  const label = known.length ? `${show(known.at(-1))}, at most ${show(Math.max(...known))} in two minutes` : "nothing known";
  const box = { class: "spark", viewBox: `0 0 ${width} ${height}`, width, height, preserveAspectRatio: "none", role: "img", "aria-label": label };
  const line = svg("polyline", { points: points.join(" ") });
  return svg("svg", box, svg("title", {}, label), svg("path", { class: "floor", d: `M0 ${height - 0.5}H${width}` }), line);
}
