// The whole network at a glance: how large the gradients are from the input to the loss, on a
// logarithmic scale, where vanishing and exploding show as a slope.

import { h, replace, svg } from "./dom.js";
import { real } from "./explanation.js";
import { number } from "./numbers.js";

const ROW = 30;
const LABEL = { wide: 168, narrow: 96 };
const WIDTH = { most: 900, least: 300, narrow: 560 };
const RIGHT = 26;

/** One row a module call with operations of its own, in forward order. */
export function depthRows(explanation) {
  const rows = new Map();
  for (const node of explanation.nodes) {
    if (node.call === null || node.kind !== "operation") continue;
    const group = explanation.groupOf.get(node.call);
    if (!rows.has(group.id)) rows.set(group.id, { group, parameters: new Map(), factor: null });
    rows.get(group.id).output = node;
    for (const input of node.inputs) {
      const operand = explanation.nodes[input];
      if (operand.kind === "parameter" && operand.gradient) rows.get(group.id).parameters.set(operand.id, operand);
    }
  }
  return [...rows.values()].filter((row) => row.output.gradient).map(measured);
}

function measured(row) {
  const { gradient } = row.output;
  const squares = [...row.parameters.values()].map((p) => real(p.gradient.norm) ** 2);
  return {
    ...row,
    title: row.group.path || row.group.kind,
    output: row.output,
    signal: real(gradient.norm) / Math.sqrt(gradient.size),
    weights: squares.length ? Math.sqrt(squares.reduce((a, b) => a + b, 0)) : null,
  };
}

// By the factor that one layer changes the gradient by.
const VERDICTS = [
  [0.5, "it vanishes on the way back"],
  [0.8, "it shrinks on the way back"],
  [1.25, "it keeps its size well"],
  [2, "it grows on the way back"],
  [Infinity, "it explodes on the way back"],
];

export class NetworkView {
  constructor(element, explanation, go) {
    Object.assign(this, { element, explanation, go });
    this.update();
  }

  /** The width that there is to draw on; a view that is hidden has none of its own. */
  room() {
    return (this.element.clientWidth || Math.min(document.documentElement.clientWidth, 1120)) - 48;
  }

  /** Draw it again, with the numbers as they are now. */
  update() {
    const rows = depthRows(this.explanation);
    if (!rows.length) {
      replace(
        this.element,
        h(
          "p",
          { class: "empty" },
          "This computation has no modules: there is no depth to look along. The steps show each derivative.",
        ),
      );
      return;
    }
    replace(
      this.element,
      h("h2", {}, "Gradients by depth"),
      h("p", { class: "lead" }, describe(rows)),
      h(
        "p",
        { class: "keys" },
        h("span", { class: "key signal" }, "root mean square of ∂L/∂output"),
        h("span", { class: "key parameters" }, "norm of ∂L/∂parameters"),
      ),
      h("div", { class: "chart-scroll" }, chart(rows, this.go, this.room())),
      table(rows, this.go),
    );
  }
}

function describe(rows) {
  const sizes = rows.filter((row) => row.signal > 0);
  if (sizes.length < 2) return "The gradient is zero or not finite almost everywhere.";
  const first = sizes[0];
  const last = sizes.at(-1);
  const ratio = first.signal / last.signal;
  const layers = sizes.length - 1;
  const each = ratio ** (1 / layers);
  const [, verdict] = VERDICTS.find(([limit]) => each < limit);
  return `From ${last.title} back to ${first.title} the gradient of the outputs changes by a factor of ${number(ratio, 3)}, which is ${number(each, 3)} a layer: ${verdict}.`;
}

function chart(rows, go, room) {
  const width = Math.max(WIDTH.least, Math.min(WIDTH.most, room));
  const narrow = width < WIDTH.narrow;
  const label = narrow ? LABEL.narrow : LABEL.wide;
  const letters = narrow ? 12 : 22;
  const values = rows.flatMap((row) => [row.signal, row.weights]).filter((v) => v > 0 && Number.isFinite(v));
  let low = Math.floor(Math.log10(Math.min(...values)));
  let high = Math.ceil(Math.log10(Math.max(...values)));
  if (!Number.isFinite(low)) [low, high] = [-1, 0];
  if (high === low) high++;
  const x = (value) => label + ((Math.log10(value) - low) / (high - low)) * (width - label - RIGHT);
  const y = (i) => 12 + ROW * i + ROW / 2;
  const height = 12 + ROW * rows.length + 34;
  const every = Math.ceil((high - low) / (narrow ? 4 : 8));
  const ticks = Array.from({ length: high - low + 1 }, (_, i) => low + i).filter((t) => (t - low) % every === 0);
  const series = (key) =>
    rows
      .map((row, i) => [row[key], i])
      .filter(([value]) => value > 0 && Number.isFinite(value))
      .map(([value, i]) => [x(value), y(i)]);
  return svg(
    "svg",
    {
      class: "depth",
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: "img",
      "aria-label": "Gradient sizes by depth; the table below has the numbers",
    },
    ticks.map((t) => [
      svg("line", { class: "grid", x1: x(10 ** t), x2: x(10 ** t), y1: 8, y2: height - 26 }),
      svg("text", { class: "tick", x: x(10 ** t), y: height - 8, "text-anchor": "middle" }, number(10 ** t, 2)),
    ]),
    rows.map((row, i) =>
      svg(
        "g",
        { class: "row", onclick: () => go(row.output.id) },
        svg("rect", { class: "hit", x: 0, y: y(i) - ROW / 2, width, height: ROW }),
        svg(
          "text",
          { class: "row-label", x: label - 14, y: y(i) + 4, "text-anchor": "end" },
          row.title.length > letters ? `…${row.title.slice(1 - letters)}` : row.title,
        ),
      ),
    ),
    ["signal", "weights"].map((key) => [
      svg("polyline", {
        class: `line ${key}`,
        points: series(key)
          .map((p) => p.join(","))
          .join(" "),
      }),
      series(key).map(([cx, cy]) =>
        key === "signal"
          ? svg("circle", { class: `dot ${key}`, cx, cy, r: 4.5 })
          : svg("rect", { class: `dot ${key}`, x: cx - 4, y: cy - 4, width: 8, height: 8, rx: 1 }),
      ),
    ]),
  );
}

function table(rows, go) {
  return h(
    "table",
    { class: "numbers" },
    h("caption", {}, "From input to loss"),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        ["layer", "kind", "rms ∂L/∂output", "beside the layer after it", "‖∂L/∂parameters‖"].map((text) =>
          h("th", { scope: "col", class: text === "kind" ? "text" : null }, text),
        ),
      ),
    ),
    h(
      "tbody",
      {},
      rows.map((row, i) => {
        const after = rows[i + 1];
        return h(
          "tr",
          {},
          h("th", { scope: "row" }, h("button", { class: "link", onclick: () => go(row.output.id) }, row.title)),
          h("td", { class: "text" }, row.group.kind),
          h("td", {}, number(row.signal, 3)),
          h("td", {}, after ? `× ${number(row.signal / after.signal, 3)}` : ""),
          h("td", {}, row.weights === null ? "" : number(row.weights, 3)),
        );
      }),
    ),
  );
}
