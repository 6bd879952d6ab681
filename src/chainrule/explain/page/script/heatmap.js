// Numbers as colours: one cell an entry (or a block of entries), blue below zero, orange above,
// with the scale beside it and the number under the pointer or the keyboard's cursor.

import { css, signedColour, tone } from "./colour.js";
import { h, replace } from "./dom.js";
import { cells, real } from "./explanation.js";
import { number, shapeText } from "./numbers.js";

const painted = new Set();

/** Paint all heat maps on the page again, after the colours changed. */
export function repaint() {
  for (const reference of painted) {
    const map = reference.deref();
    if (map?.canvas.isConnected) map.paint();
    else painted.delete(reference);
  }
}

/**
 * A figure for a value or a gradient: heat map, scale, statistics.
 *
 * name: what the numbers are; `mark` is a flat index that is pointed out (the entry asked for).
 */
export function heatmap(name, statistics, shape, { limit = null, compact = false } = {}) {
  const found = cells(statistics, shape);
  if (!found || found.values.length === 0) return statistics ? summary(name, statistics, shape) : null;
  if (found.values.length === 1) {
    return h("figure", { class: "heat one" }, h("figcaption", {}, name), h("output", {}, number(found.values[0])));
  }
  const uniform = found.exact && found.values.every((value) => value === found.values[0]);
  if (uniform || (statistics.min === statistics.max && !statistics.nan && !statistics.inf)) {
    return h(
      "figure",
      { class: "heat one" },
      h("figcaption", {}, name),
      h("output", {}, `${number(found.values[0])} everywhere`),
    );
  }
  const map = new HeatMap(name, found, shape, limit ?? largest(found.values));
  painted.add(new WeakRef(map));
  return h(
    "figure",
    { class: compact ? "heat compact" : "heat" },
    h("figcaption", {}, h("span", { class: "what" }, name), h("span", { class: "shape" }, shapeText(shape))),
    map.canvas,
    h("div", { class: "scale-line" }, legend(map.limit), map.readout),
    compact ? null : statisticsLine(statistics),
  );
}

function summary(name, statistics, shape) {
  return h(
    "figure",
    { class: "heat" },
    h("figcaption", {}, h("span", { class: "what" }, name), h("span", { class: "shape" }, shapeText(shape))),
    statisticsLine(statistics),
  );
}

function largest(values) {
  let most = 0;
  for (const value of values) if (Number.isFinite(value)) most = Math.max(most, Math.abs(value));
  return most;
}

/** The statistics of an array in one line. */
export function statisticsLine(statistics) {
  const broken = (statistics.nan ?? 0) + (statistics.inf ?? 0);
  const facts = [
    ["mean", number(real(statistics.mean), 3)],
    ["std", number(real(statistics.std), 3)],
    ["norm", number(real(statistics.norm), 3)],
    statistics.zeros > 0 ? ["zeros", `${(100 * statistics.zeros).toFixed(statistics.zeros < 0.1 ? 1 : 0)} %`] : null,
    broken ? ["NaN or ∞", String(broken)] : null,
  ];
  return h(
    "dl",
    { class: "facts" },
    facts.filter(Boolean).map(([term, text]) => h("div", {}, h("dt", {}, term), h("dd", {}, text))),
  );
}

function legend(limit) {
  const steps = 25;
  const which = tone();
  const stops = Array.from({ length: steps }, (_, i) =>
    css(signedColour(((2 * i) / (steps - 1) - 1) * (limit || 1), limit || 1, which)),
  );
  const bar = h("span", { class: "bar" });
  bar.style.background = `linear-gradient(to right, ${stops.join(",")})`;
  return h(
    "span",
    {
      class: "legend",
      role: "img",
      "aria-label": `colours from ${number(-limit, 3)} (blue) over 0 to ${number(limit, 3)} (orange)`,
    },
    h("span", {}, number(-limit, 2)),
    bar,
    h("span", {}, number(limit, 2)),
  );
}

class HeatMap {
  constructor(name, { rows, columns, values, exact }, shape, limit) {
    Object.assign(this, { name, shape, limit, values, exact, ...folded(rows, columns, values.length) });
    this.at = 0;
    this.readout = h("output", { class: "readout", "aria-live": "polite" });
    this.canvas = h("canvas", {
      width: this.across,
      height: this.down,
      tabindex: "0",
      role: "img",
      "aria-label": `${name}: heat map of ${shapeText(shape)}, largest magnitude ${number(limit, 3)}; arrow keys read single cells`,
      onpointermove: (event) => this.read(this.cellAt(event)),
      onpointerleave: () => this.read(null),
      onkeydown: (event) => this.key(event),
      onblur: () => this.read(null),
    });
    const size = Math.max(this.across, this.down);
    const cell = Math.max(1, Math.min(26, 300 / this.across, (size > 40 ? 260 : 180) / this.down));
    this.canvas.style.width = `${Math.round(cell * this.across)}px`;
    this.canvas.style.aspectRatio = `${this.across} / ${this.down}`;
    this.paint();
  }

  paint() {
    const context = this.canvas.getContext("2d");
    const image = context.createImageData(this.across, this.down);
    const which = tone();
    for (let i = 0; i < this.values.length; i++) {
      const [r, g, b] = signedColour(this.values[i], this.limit, which);
      image.data.set([r, g, b, 255], 4 * i);
    }
    context.putImageData(image, 0, 0);
  }

  cellAt(event) {
    const { width, height } = this.canvas.getBoundingClientRect();
    const column = Math.min(this.across - 1, Math.max(0, Math.floor((event.offsetX / width) * this.across)));
    const row = Math.min(this.down - 1, Math.max(0, Math.floor((event.offsetY / height) * this.down)));
    return row * this.across + column;
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.across, ArrowDown: this.across }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const next = this.at + step;
    if (next >= 0 && next < this.values.length) this.at = next;
    this.read(this.at);
  }

  read(cell) {
    if (cell === null || cell >= this.values.length) {
      replace(this.readout);
      return;
    }
    const place = this.exact
      ? `[${indices(cell, this.shape).join(", ")}]`
      : `row ${Math.floor(cell / this.across)}, column ${cell % this.across}`;
    replace(this.readout, `${place} ${this.exact ? "=" : "≈"} ${number(this.values[cell], this.exact ? 4 : 2)}`);
  }
}

// One long row is folded into several, so that its cells can be seen.
function folded(rows, columns, size) {
  if (rows === 1 && columns > 64) {
    const across = Math.ceil(Math.sqrt(columns * 4));
    return { across, down: Math.ceil(size / across) };
  }
  return { across: columns, down: rows };
}

function indices(flat, shape) {
  const result = [];
  for (const length of [...shape].reverse()) {
    result.unshift(flat % length);
    flat = Math.floor(flat / length);
  }
  return result;
}
