// The studio's pictures: curve of one neuron, an image with its classes, the loss over the steps,
// the size of each parameter's gradient, a matrix of weights.

import { signedColour, tone } from "./colour.js";
import { h, svg } from "./dom.js";
import { number, percent } from "./numbers.js";

const SIDE = 340;

/** a = f(w x + b) over x, with the present input and the target. */
export function curveOf(curve, inputs) {
  const x0 = inputs[0].value;
  const target = inputs.at(-1).value;
  const known = curve.filter(([, y]) => y !== null);
  const low = Math.min(-1.2, target - 0.2, ...known.map(([, y]) => y));
  const high = Math.max(1.2, target + 0.2, ...known.map(([, y]) => y));
  const X = (v) => 34 + ((v + 4) / 8) * (SIDE - 44);
  const Y = (v) => 12 + ((high - v) / (high - low || 1)) * (SIDE - 120);
  const here = known.reduce((best, p) => (Math.abs(p[0] - x0) < Math.abs(best[0] - x0) ? p : best), known[0] ?? [0, 0]);
  return h(
    "figure",
    {},
    svg(
      "svg",
      {
        class: "curve-plot",
        viewBox: `0 0 ${SIDE} ${SIDE - 96}`,
        role: "img",
        "aria-label": `Output over the input; at x = ${number(x0, 3)} it is ${number(here[1], 3)}, the target is ${number(target, 3)}`,
      },
      svg("line", { class: "axis", x1: X(-4), x2: X(4), y1: Y(0), y2: Y(0) }),
      svg("line", { class: "axis", x1: X(0), x2: X(0), y1: Y(low), y2: Y(high) }),
      svg("line", { class: "target", x1: X(-4), x2: X(4), y1: Y(target), y2: Y(target) }),
      svg("text", { x: X(4) - 4, y: Y(target) - 5, "text-anchor": "end" }, "target y"),
      svg("polyline", {
        class: "output",
        points: known.map(([x, y]) => `${X(x).toFixed(1)},${Y(y).toFixed(1)}`).join(" "),
      }),
      svg("line", { class: "error", x1: X(here[0]), x2: X(here[0]), y1: Y(here[1]), y2: Y(target) }),
      svg("circle", { class: "now", cx: X(here[0]), cy: Y(here[1]), r: 6 }),
      svg("text", { x: X(4) - 4, y: Y(0) + 15, "text-anchor": "end" }, "x"),
      svg("text", { x: X(0) + 7, y: Y(high) + 10 }, "a = f(w x + b)"),
    ),
  );
}

/** An image, the derivative of the loss by its pixels, and the probabilities of its classes. */
export function digit({ pixels, gradient, size }, probabilities, label) {
  const most = Math.max(...gradient.map((g) => Math.abs(g ?? 0)), 1e-30);
  const which = tone();
  const grey = (value) => Array(3).fill(Math.round(which === "dark" ? 28 + 210 * value : 250 - 230 * value));
  return h(
    "div",
    { class: "image-answer" },
    square(size, pixels, grey, `a handwritten ${label}`, "the image"),
    square(
      size,
      gradient,
      (g) => signedColour(g ?? NaN, most, which),
      "derivative of the loss by each pixel",
      "∂L/∂pixel",
    ),
    h(
      "ol",
      { class: "classes", "aria-label": "Probability of each class" },
      probabilities.map((p, c) =>
        h(
          "li",
          { class: c === label ? "right" : null },
          h("b", {}, String(c)),
          h("span", { class: "share-bar", variables: { share: p ?? 0 } }),
          h("span", { class: "quiet" }, p === null ? "NaN" : percent(p)),
        ),
      ),
    ),
  );
}

function square(size, values, colour, spoken, caption) {
  const canvas = h("canvas", { class: "digit", width: size, height: size, role: "img", "aria-label": spoken });
  const context = canvas.getContext("2d");
  const image = context.createImageData(size, size);
  values.forEach((value, i) => image.data.set([...colour(value), 255], 4 * i));
  context.putImageData(image, 0, 0);
  return h("figure", {}, canvas, h("figcaption", { class: "quiet" }, caption));
}

/** The loss over the steps. */
export function lossCurve(losses, latest, tested) {
  const known = losses.filter(([, loss]) => loss !== null);
  const width = 360;
  const height = 110;
  const most = Math.max(...known.map(([, loss]) => loss), 1e-12);
  const [first, last] = [known[0]?.[0] ?? 0, known.at(-1)?.[0] ?? 1];
  const X = (step) => ((step - first) / (last - first || 1)) * width;
  const Y = (loss) => height - 6 - (loss / most) * (height - 14);
  return h(
    "figure",
    {},
    h("figcaption", {}, h("b", {}, "Loss"), " ", h("span", { class: "quiet" }, tested === null || tested === undefined ? number(latest) : `${number(latest)} in training, ${number(tested)} in the test`)),
    svg(
      "svg",
      {
        viewBox: `0 0 ${width} ${height}`,
        preserveAspectRatio: "none",
        role: "img",
        "aria-label": `Loss, now ${number(latest)} after ${last} steps`,
      },
      svg("polyline", { points: known.map(([s, l]) => `${X(s).toFixed(1)},${Y(l).toFixed(1)}`).join(" ") }),
    ),
  );
}

/** The norm of each parameter's gradient, on a logarithmic scale over eight powers of ten. */
export function gradientBars(parameters, of) {
  const length = (norm) => (norm > 0 ? Math.max(0.02, Math.min(1, (Math.log10(norm) + 6) / 8)) : 0);
  return h(
    "table",
    { class: "gradient-bars" },
    h("caption", {}, `‖∂L/∂parameter‖ ${of}`),
    h(
      "tbody",
      {},
      parameters.map(({ name, gradient_norm: norm }) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, name),
          h("td", { class: "bar-cell" }, h("span", { class: "share-bar", variables: { share: length(norm) } })),
          h("td", {}, number(norm, 3)),
        ),
      ),
    ),
  );
}

/** A matrix of weights in which one can be chosen: { element, paint(parameter, entry) }. */
export function paintMatrix(chosen) {
  let columns = 1;
  let total = 1;
  let at = 0;
  const canvas = h("canvas", {
    class: "matrix",
    tabindex: "0",
    role: "img",
    onclick: (event) => {
      const frame = canvas.getBoundingClientRect();
      const column = Math.floor(((event.clientX - frame.left) / frame.width) * canvas.width);
      const row = Math.floor(((event.clientY - frame.top) / frame.height) * canvas.height);
      chosen(Math.min(total - 1, row * columns + column));
    },
    onkeydown: (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
      if (!by) return;
      event.preventDefault();
      event.stopPropagation();
      chosen(Math.max(0, Math.min(total - 1, at + by)));
    },
  });
  const frame = h("span", { class: "cell-frame", "aria-hidden": "true" });
  return {
    element: h("div", { class: "matrix-frame" }, canvas, frame),
    paint({ name, shape, values }, entry) {
      columns = shape.length > 1 ? values.length / shape[0] : Math.max(1, values.length);
      total = values.length;
      at = entry;
      const rows = Math.ceil(total / columns);
      canvas.width = columns;
      canvas.height = rows;
      canvas.setAttribute("aria-label", `${name}: choose a weight with the arrow keys`);
      canvas.style.aspectRatio = `${columns} / ${rows}`;
      canvas.parentElement.style.width = `${columns * Math.min(34, 260 / rows)}px`;
      const most = Math.max(...values.map((v) => Math.abs(v ?? 0)), 1e-12);
      const which = tone();
      const context = canvas.getContext("2d");
      const image = context.createImageData(columns, rows);
      values.forEach((v, i) => image.data.set([...signedColour(v ?? NaN, most, which), 255], 4 * i));
      context.putImageData(image, 0, 0);
      frame.style.left = `${(100 * (entry % columns)) / columns}%`;
      frame.style.top = `${(100 * Math.floor(entry / columns)) / rows}%`;
      frame.style.width = `${100 / columns}%`;
      frame.style.height = `${100 / rows}%`;
    },
  };
}
