// One neuron, as on the blackboard: z = w·x + b, a = f(z), and back through ∂L/∂a, ∂L/∂z to the
// weights, the bias and the inputs, each with its numbers.

import { css, signedColour } from "./colour.js";
import { h, replace, svg } from "./dom.js";
import { formula } from "./formula.js";
import { factor, number } from "./numbers.js";

const ROW = 44;
const WIDE = { left: 64, width: 660, sum: 372 }; // `left` is for the numbers of the inputs
const NARROW = { left: 52, width: 322, sum: 244 }; // on a phone: the function stands below the sum
const narrow = matchMedia("(max-width: 640px)");

export class NeuronView {
  /** `neurons` are those of explain/page/neurons.py: a layer's, the most telling ones first. */
  constructor(element, neurons, speak) {
    this.element = element;
    this.speak = speak;
    this.layers = [...new Set(neurons.map((neuron) => neuron.layer))];
    this.neurons = neurons;
    this.at = -1;
    this.layerChoice = h(
      "select",
      { id: "neuron-layer", onchange: () => this.chooseLayer() },
      this.layers.map((name) => h("option", { value: name }, name)),
    );
    this.neuronChoice = h("select", { id: "neuron-index", onchange: () => this.choose() });
    this.stage = h("div", { class: "stage" });
    this.list = h("ol", { class: "textbook" });
    replace(
      element,
      h("h2", {}, "One neuron"),
      h(
        "p",
        { class: "choose" },
        h("label", { for: "neuron-layer" }, "Layer ", this.layerChoice),
        h("label", { for: "neuron-index" }, "Neuron ", this.neuronChoice),
        h("span", { class: "quiet" }, "← → walk through its steps"),
      ),
      this.stage,
      this.list,
    );
    narrow.addEventListener("change", () => this.draw());
    this.layerChoice.value = (neurons.findLast((neuron) => neuron.activation) ?? neurons.at(-1)).layer;
    this.chooseLayer();
  }

  chooseLayer() {
    this.offer(this.neurons.filter((neuron) => neuron.layer === this.layerChoice.value));
  }

  offer(neurons, index = neurons[0].index) {
    this.shown = neurons;
    replace(
      this.neuronChoice,
      this.shown.map((neuron, i) =>
        h("option", { value: String(i) }, `${neuron.index} (∂L/∂z = ${number(neuron.dL_dz, 3)})`),
      ),
    );
    this.neuronChoice.value = String(
      Math.max(
        0,
        neurons.findIndex((neuron) => neuron.index === index),
      ),
    );
    this.choose();
  }

  choose() {
    this.neuron = this.shown[Number(this.neuronChoice.value) || 0];
    this.steps = textbook(this.neuron);
    this.at = Math.min(this.at, this.steps.length - 1);
    this.draw();
  }

  /** Paint again, after the colours changed. */
  repaint() {
    this.draw();
  }

  /** Show the same neuron with other numbers. */
  update(neurons) {
    const { layer, index } = this.neuron;
    this.neurons = neurons;
    const same = neurons.filter((neuron) => neuron.layer === layer).sort((a, b) => parseFloat(a.index) - parseFloat(b.index));
    if (!same.length) return;
    this.offer(same, index);
  }

  /** Go to a step by the keyboard; true if this view has one there. */
  move(by) {
    this.at = Math.max(-1, Math.min(this.steps.length - 1, this.at + by));
    this.draw();
    if (this.at >= 0) this.speak(`${this.steps[this.at].name}: ${this.steps[this.at].words}`);
  }

  draw() {
    replace(
      this.stage,
      h(
        "div",
        { class: "chart-scroll" },
        diagram(
          this.neuron,
          new Set(this.steps.slice(0, this.at < 0 ? this.steps.length : this.at + 1).map((step) => step.key)),
        ),
      ),
    );
    replace(
      this.list,
      this.steps.map((step, i) =>
        h(
          "li",
          { class: `${step.pass}${i === this.at ? " active" : ""}`, "aria-current": i === this.at ? "step" : null },
          h(
            "button",
            { class: "row", onclick: () => this.move(i - this.at) },
            h("span", { class: "symbolic" }, formula(step.mathml, { block: false, spoken: step.name })),
            h("span", { class: "numeric" }, step.numeric),
          ),
          h("p", {}, step.words),
        ),
      ),
    );
  }
}

/** The textbook's steps in short: formula and numbers, one line each. */
export function textbookLines(neuron) {
  return h(
    "table",
    { class: "textbook-lines" },
    h("caption", {}, "Forward and backward"),
    h(
      "tbody",
      {},
      textbook(neuron).map((step) =>
        h(
          "tr",
          { class: step.pass },
          h("th", { scope: "row" }, formula(step.mathml, { block: false, spoken: step.name })),
          h("td", {}, step.numeric),
        ),
      ),
    ),
  );
}

// The steps of the textbook. Without an activation there is no a of its own, so two of them fall away.
function textbook(n) {
  const largest = (key) =>
    n.terms.reduce((best, term) => (Math.abs(term[key]) > Math.abs(best[key]) ? term : best), n.terms[0]);
  const heaviest = largest("dW");
  const nearest = largest("dx");
  const products = n.terms
    .slice(0, 3)
    .map((t) => `${factor(t.w)}·${factor(t.x)}`)
    .join(" + ");
  const more = n.inputs > 3 ? ` + … (${n.inputs - 3} more)` : "";
  const f = n.activation;
  const { w = "w", x = "x", z = "z" } = n.symbols;
  const weight = w === "w" ? "W" : w;
  const hasBias = n.b !== null;
  const rest = "What the rest of the network says: how the loss changes with this neuron's output.";
  const steps = [
    {
      key: "z",
      pass: "forward",
      name: hasBias ? `${z} = ${w}·${x} + b` : `${z} = ${w}·${x}`,
      mathml: math(letters(hasBias ? `${z}=${w}·${x}+b` : `${z}=${w}·${x}`)),
      numeric: `${products}${more}${hasBias ? ` + ${factor(n.b)}` : ""} = ${number(n.z)}`,
      words:
        n.words.z ??
        (n.inputs > 1
          ? `The ${n.inputs} inputs are weighted, added up, and the bias is added.`
          : "The input is weighted, and the bias is added."),
    },
    f && {
      key: "a",
      pass: "forward",
      name: "a = f(z)",
      mathml: math(letters("a=f(z)")),
      numeric: `${f}(${number(n.z)}) = ${number(n.a)}`,
      words: `The activation function f is ${f}.`,
    },
    f && { key: "da", pass: "backward", name: "∂L/∂a", mathml: math(d("a")), numeric: number(n.dL_da), words: rest },
    f
      ? {
          key: "dz",
          pass: "backward",
          name: "∂L/∂z = ∂L/∂a · f′(z)",
          mathml: math(`${d("z")}<mo>=</mo>${d("a")}<mo>·</mo><msup><mi>f</mi><mo>′</mo></msup>${letters("(z)")}`),
          numeric: `${factor(n.dL_da)} · ${factor(n.slope)} = ${number(n.dL_dz)}`,
          words: `The slope of ${f} at z = ${number(n.z)} is ${number(n.slope)}.`,
        }
      : { key: "dz", pass: "backward", name: `∂L/∂${z}`, mathml: math(d(z)), numeric: number(n.dL_dz), words: rest },
    {
      key: "dW",
      pass: "backward",
      name: `∂L/∂${weight} = ∂L/∂${z} · ${x}`,
      mathml: math(`${d(weight)}<mo>=</mo>${d(z)}${letters(`·${x}`)}`),
      numeric: `${w}${below(heaviest.i)}:  ${factor(n.dL_dz)} · ${factor(heaviest.x)} = ${number(heaviest.dW)}`,
      words: n.words.dW ?? "One number for each weight: the larger its input, the more the weight matters.",
    },
    hasBias && {
      key: "db",
      pass: "backward",
      name: "∂L/∂b = ∂L/∂z",
      mathml: math(`${d("b")}<mo>=</mo>${d("z")}`),
      numeric: number(n.dL_dz),
      words: "The bias enters z with the factor 1.",
    },
    {
      key: "dx",
      pass: "backward",
      name: `∂L/∂${x} = ∂L/∂${z} · ${weight}`,
      mathml: math(`${d(x)}<mo>=</mo>${d(z)}${letters(`·${weight}`)}`),
      numeric: `${x}${below(nearest.i)}:  ${factor(n.dL_dz)} · ${factor(nearest.w)} = ${number(nearest.dx)}`,
      words: n.words.dx ?? "What this neuron hands back to the layer before; there the shares of all neurons are added.",
    },
  ];
  return steps.filter(Boolean);
}

function math(inner) {
  return `<math displaystyle="true"><mrow>${inner}</mrow></math>`;
}

function letters(text) {
  return [...text].map((c) => (/[a-zA-Z]/.test(c) ? `<mi>${c}</mi>` : `<mo>${c}</mo>`)).join("");
}

function d(symbol) {
  return `<mfrac><mrow><mo>∂</mo><mi>L</mi></mrow><mrow><mo>∂</mo><mi>${symbol}</mi></mrow></mfrac>`;
}

function below(index) {
  const text = String(index);
  if (!/^\d+$/.test(text)) return `[${text}]`;
  return [...text].map((digit) => "₀₁₂₃₄₅₆₇₈₉"[Number(digit)]).join("");
}

// `known` are the keys of the steps taken so far.
function diagram(n, known) {
  const rows = n.terms.length + (n.rest ? 1 : 0);
  const across = !narrow.matches;
  const { left, width, sum } = across ? WIDE : NARROW;
  const height = Math.max(across ? 190 : n.activation ? 400 : 250, rows * ROW + 60);
  const middle = across ? height / 2 : height / 2 - (n.activation ? 88 : 10);
  const y = (i) => height / 2 + (i - (rows - 1) / 2) * ROW;
  const strongest = Math.max(...n.terms.map((t) => Math.abs(t.w * t.x)), 1e-30);
  const wire = (path, key) => svg("path", { class: known.has(key) ? "wire back" : "wire", d: path });
  const [fx, fy] = across ? [sum + 150, middle] : [sum, middle + 158];
  const [lx, ly] = n.activation ? [fx, fy] : [sum, middle];
  // From one circle to the next: beside it, or below the numbers under it.
  const onward = (x, y, to) => (across ? `M${x + 30} ${y}H${to}` : `M${x} ${y + 78}V${to}`);
  return svg(
    "svg",
    {
      class: "neuron",
      viewBox: `${-left} 0 ${width + left} ${height}`,
      width: width + left,
      height,
      role: "img",
      "aria-label": `Neuron ${n.index} of ${n.layer} with its largest inputs`,
    },
    svg("text", { class: "head", x: 48, y: 20, "text-anchor": "middle" }, known.has("dx") ? `∂L/∂${n.symbols.x ?? "x"}` : (n.symbols.x ?? "x")),
    svg("text", { class: "head", x: 142, y: 20, "text-anchor": "middle" }, known.has("dW") ? `∂L/∂${n.symbols.w ?? "w"}` : (n.symbols.w ?? "w")),
    n.terms.map((term, i) => weightLine(term, y(i), [sum, middle], strongest)),
    n.terms.map((term, i) => input(term, y(i), known)),
    n.rest ? restOfInputs(n.rest, y(rows - 1), [sum, middle]) : null,
    circle(
      sum,
      middle,
      "Σ",
      known.has("z") ? `${n.symbols.z ?? "z"} = ${number(n.z)}` : "",
      known.has("dz") ? `∂L/∂${n.symbols.z ?? "z"} = ${number(n.dL_dz)}` : "",
    ),
    n.b === null
      ? null
      : [
          svg(
            "text",
            { class: known.has("db") ? "bias back" : "bias", x: sum, y: middle - 58, "text-anchor": "middle" },
            known.has("db") ? `∂L/∂b = ${number(n.dL_dz)}` : `b = ${number(n.b)}`,
          ),
          wire(`M${sum} ${middle - 50}V${middle - 32}`, "db"),
        ],
    n.activation
      ? [
          wire(onward(sum, middle, across ? fx - 30 : fy - 32), "dz"),
          circle(
            fx,
            fy,
            "f",
            known.has("a") ? `a = ${number(n.a)}` : "",
            known.has("da") ? `∂L/∂a = ${number(n.dL_da)}` : "",
          ),
        ]
      : null,
    wire(onward(lx, ly, across ? width - 28 : ly + 94), n.activation ? "da" : "dz"),
    svg("text", { class: "head", x: across ? width - 14 : lx, y: across ? middle + 5 : ly + 112, "text-anchor": "middle" }, "L"),
  );
}

function weightLine(term, y, sum, strongest) {
  const contribution = term.w * term.x;
  return svg("path", {
    class: "weight",
    d: bend(y, sum),
    stroke: css(signedColour(contribution, strongest)),
    "stroke-width": (1 + 5 * Math.sqrt(Math.abs(contribution) / strongest)).toFixed(1),
  });
}

function input(term, y, known) {
  const back = (key, derivative, value, kind) => [
    known.has(key) ? `${kind} back` : kind,
    number(known.has(key) ? derivative : value, 3),
  ];
  const [weightClass, weight] = back("dW", term.dW, term.w, "label");
  const [inputClass, value] = back("dx", term.dx, term.x, "value");
  return svg(
    "g",
    {},
    svg("rect", { class: "input", x: -2, y: y - 15, width: 100, height: 30, rx: 15 }),
    svg("text", { class: inputClass, x: 48, y: y + 4, "text-anchor": "middle" }, value),
    svg("text", { class: "index", x: -8, y: y + 4, "text-anchor": "end" }, String(term.i)),
    svg("text", { class: weightClass, x: 104, y: y - 6 }, weight),
  );
}

function restOfInputs(rest, y, sum) {
  return svg(
    "g",
    {},
    svg("path", { class: "weight rest", d: bend(y, sum) }),
    svg("text", { class: "label", x: 48, y: y + 4, "text-anchor": "middle" }, `${rest.count} more`),
    svg("text", { class: "label", x: 104, y: y - 6 }, `Σ ${number(rest.sum, 3)}`),
  );
}

// From an input to the sum at [x, y].
function bend(from, [x, y]) {
  return `M98 ${from}C${98 + 0.46 * (x - 128)} ${from} ${98 + 0.62 * (x - 128)} ${y} ${x - 30} ${y}`;
}

function circle(x, y, symbol, below, above) {
  return svg(
    "g",
    {},
    svg("circle", { class: "unit", cx: x, cy: y, r: 30 }),
    svg("text", { class: "symbol", x, y: y + 7, "text-anchor": "middle" }, symbol),
    svg("text", { class: "value", x, y: y + 50, "text-anchor": "middle" }, below),
    svg("text", { class: "value back", x, y: y + 70, "text-anchor": "middle" }, above),
  );
}
