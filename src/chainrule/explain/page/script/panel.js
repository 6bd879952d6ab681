// The panel beside the graph: what happened in the step that is shown, as formula, numbers and words.

import { h, replace } from "./dom.js";
import { layerEquations } from "./equations.js";
import { real, single } from "./explanation.js";
import { formula } from "./formula.js";
import { heatmap } from "./heatmap.js";
import { count, factor, number, percent, shapeText } from "./numbers.js";

const MOST_TERMS = 12;

export class Panel {
  /** `go` is called with a node's id when the reader follows a link to it. */
  constructor(element, explanation, graph, go) {
    Object.assign(this, { element, explanation, graph, go });
  }

  /** Show a stop, or the overview for null. Returns the sentence for the reader's ear. */
  show(stop, { stay = false } = {}) {
    const [sentence, content] = stop === null ? this.overview() : this.step(stop);
    const { scrollTop } = this.element;
    replace(this.element, content);
    this.element.scrollTop = stay ? scrollTop : 0;
    return sentence;
  }

  step(stop) {
    if (this.graph.isGroup(stop.item)) return this.group(stop);
    const node = this.explanation.nodes[stop.nodes[0]];
    return stop.pass === "forward" ? this.forward(node) : this.backward(node);
  }

  overview() {
    const { explanation: e } = this;
    const loss = single(e.loss.value);
    const asked = listed(
      e.wrt.length > 4
        ? [...e.wrt.slice(0, 3).map((node) => node.label), count(e.wrt.length - 3, "other")]
        : e.wrt.map((node) => node.label),
    );
    const sentence = `${e.title}: ${count(e.steps.length, "step")} lead from the loss back to ${asked}.`;
    return [
      sentence,
      [
        h("p", { class: "eyebrow" }, "The question"),
        h("h2", { class: "question" }, "Why is ", h("span", { class: "symbol" }, e.title), " what it is?"),
        h("p", {}, sentence, loss === null ? "" : ` The loss is ${number(loss)}.`),
        e.check ? this.checkLine() : null,
        e.answers.map((answer) => this.answer(answer)),
        e.wrt
          .slice(0, 3)
          .map((node) => [
            heatmap(`∂L/∂${node.label}`, node.gradient, node.shape ?? []),
            heatmap(node.label, node.value, node.shape ?? []),
          ]),
        h(
          "p",
          { class: "hint" },
          "Press ",
          h("kbd", {}, "→"),
          " to walk forward through the computation, and on, back through its derivatives. ",
          h("kbd", {}, "?"),
          " shows all keys.",
        ),
      ],
    ];
  }

  checkLine() {
    const { largest_error: error, steps } = this.explanation.check;
    return h(
      "p",
      { class: "checked" },
      `✓ ${count(steps, "step")} checked against finite differences; largest relative error ${number(real(error), 2)}.`,
    );
  }

  answer({ question, text, evidence }) {
    return h(
      "section",
      { class: "answer" },
      h("h3", {}, question),
      h("p", {}, text),
      evidence.length > 0 &&
        h(
          "ul",
          {},
          evidence.map(({ text: fact, node }) =>
            h("li", {}, node === null || node === undefined ? fact : this.link(node, fact)),
          ),
        ),
    );
  }

  forward(node) {
    const { explanation: e } = this;
    const operands = node.inputs.map((id) => e.nodes[id]);
    const value = single(node.value);
    const made = value === null ? shapeText(node.shape) : number(value);
    const names = [...new Set(operands.map((operand) => operand.label))];
    const sentence = `${node.label} is computed by ${node.primitive} from ${listed(names)}: ${made}.`;
    return [
      sentence,
      [
        this.eyebrow("Forward", node),
        this.equation(node.forward, `${node.label} = ${node.primitive}(${names.join(", ")})`),
        substitution(node, operands),
        h("p", { class: "sentence" }, sentence),
        heatmap(node.label, node.value, node.shape ?? []),
        operands.length ? h("h3", {}, "From") : null,
        operands.map((operand) => this.operand(operand)),
        this.origin(node),
      ],
    ];
  }

  operand(node) {
    const value = single(node.value);
    if (value !== null)
      return h("p", {}, this.link(node.id, node.label), node.label === number(value) ? null : ` = ${number(value)}`);
    return h(
      "div",
      { class: "operand" },
      h(
        "p",
        {},
        this.link(node.id, node.label),
        h("span", { class: "quiet" }, ` ${node.kind === "operation" ? "" : node.kind}`),
      ),
      heatmap(node.label, node.value, node.shape ?? [], { compact: true }),
    );
  }

  backward(node) {
    const { explanation: e } = this;
    const step = e.steps[e.stepOf.get(node.id)];
    const terms = step.edges.map((id) => e.edges[id]);
    return [
      step.sentence,
      [
        this.eyebrow("Backward", node),
        this.equation(step.formula, `∂L/∂${node.label}`),
        h("p", { class: "sentence" }, step.sentence),
        step.scalars ? this.scalars(step, node) : null,
        terms.length > 1 ? this.shares(terms) : null,
        terms.slice(0, MOST_TERMS).map((edge) => this.term(edge, node, terms.length > 1)),
        terms.length > MOST_TERMS
          ? h("p", { class: "quiet" }, `and ${count(terms.length - MOST_TERMS, "smaller contribution")}`)
          : null,
        heatmap(`∂L/∂${node.label}`, node.gradient, node.shape ?? []),
        heatmap(node.label, node.value, node.shape ?? [], { compact: true }),
        this.origin(node),
      ],
    ];
  }

  term(edge, node, several) {
    const { explanation: e } = this;
    const consumer = e.nodes[edge.consumer];
    const numbers = [single(consumer.gradient), single(edge.factor), single(node.gradient)];
    const scalar = !several && numbers.every((n) => n !== null);
    return h(
      "section",
      { class: "term" },
      several ? h("h3", {}, "Through ", this.link(consumer.id, consumer.label)) : null,
      scalar
        ? h(
            "p",
            { class: "arithmetic" },
            part("upstream", numbers[0]),
            " · ",
            part("local", numbers[1]),
            " = ",
            part("product", numbers[2], number),
          )
        : null,
      edge.local
        ? h(
            "div",
            { class: "local" },
            h("span", { class: "tag" }, "local derivative"),
            formula(e.mathml(edge.local), { spoken: e.text(edge.local) }),
          )
        : null,
      several && edge.formula ? formula(e.mathml(edge.formula), { spoken: e.text(edge.formula) }) : null,
      scalar
        ? null
        : h(
            "div",
            { class: "factors" },
            heatmap(`upstream ∂L/∂${consumer.label}`, consumer.gradient, consumer.shape ?? [], { compact: true }),
            edge.factor ? heatmap("local derivative", edge.factor, consumer.shape ?? [], { compact: true }) : null,
          ),
      several ? h("p", { class: "quiet" }, `norm of the product ${number(real(edge.norm), 3)}`) : null,
    );
  }

  shares(terms) {
    const ordered = [...terms].sort((a, b) => Math.abs(real(b.share)) - Math.abs(real(a.share))).slice(0, MOST_TERMS);
    return h(
      "table",
      { class: "shares" },
      h("caption", {}, `A sum of ${terms.length} contributions`),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, "through"),
          h("th", { scope: "col" }, "norm"),
          h("th", { scope: "col", colspan: "2" }, "share"),
        ),
      ),
      h(
        "tbody",
        {},
        ordered.map((edge) => this.shareRow(edge)),
      ),
    );
  }

  shareRow(edge) {
    const consumer = this.explanation.nodes[edge.consumer];
    const share = real(edge.share);
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, this.link(consumer.id, consumer.label)),
      h("td", {}, number(real(edge.norm), 3)),
      h("td", {}, Number.isFinite(share) ? percent(share) : "–"),
      h(
        "td",
        { class: "bar-cell" },
        h("span", {
          class: share < 0 ? "share-bar against" : "share-bar",
          variables: { share: Math.min(1, Math.abs(share) || 0) },
        }),
      ),
    );
  }

  scalars({ scalars }, node) {
    const { explanation: e } = this;
    const at = (label, entry) => `${label}${entry.length ? `[${entry.join(", ")}]` : ""}`;
    return h(
      "table",
      { class: "scalars" },
      h("caption", {}, `∂L/∂${at(node.label, scalars.entry)} = ${number(real(scalars.value))}`),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ["through", "upstream", "× local", "= product"].map((text) => h("th", { scope: "col" }, text)),
        ),
      ),
      h(
        "tbody",
        {},
        scalars.terms.map((term) => {
          const consumer = e.nodes[e.edges[term.edge].consumer];
          return h(
            "tr",
            {},
            h("th", { scope: "row" }, this.link(consumer.id, at(consumer.label, term.entry))),
            [term.upstream, term.local, term.product].map((value) => h("td", {}, number(real(value), 4))),
          );
        }),
        scalars.rest &&
          h(
            "tr",
            { class: "quiet" },
            h("th", { scope: "row", colspan: "3" }, `${count(scalars.rest.count, "further term")}`),
            h("td", {}, number(real(scalars.rest.product), 4)),
          ),
      ),
    );
  }

  group(stop) {
    const { explanation: e } = this;
    const group = e.groupOf.get(stop.item);
    const what = group.path || group.kind;
    const back = stop.pass === "backward";
    const layer = back ? e.layers.find((candidate) => candidate.module === group.module) : null;
    const steps = count(stop.nodes.length, back ? "derivative" : "operation");
    const sentence = layer?.sentence || `${steps} inside ${what} (${group.kind}).`;
    const last = e.nodes[stop.nodes.at(-1)];
    return [
      sentence,
      [
        h(
          "p",
          { class: `eyebrow ${stop.pass}` },
          back ? "Backward" : "Forward",
          h("span", { class: "where" }, ` · ${steps} in one stop`),
        ),
        h("h2", { class: "question" }, what, h("span", { class: "quiet" }, ` ${group.kind}`)),
        layer ? layerEquations(e, layer) : null,
        h("p", { class: "sentence" }, sentence),
        h(
          "p",
          {},
          h(
            "button",
            { class: "plain", onclick: () => this.go(stop.nodes[0], stop.pass) },
            "Open it and go step by step",
          ),
        ),
        back
          ? stop.nodes
              .filter((id) => e.nodes[id].kind === "parameter")
              .slice(0, 6)
              .map((id) => heatmap(`∂L/∂${e.nodes[id].label}`, e.nodes[id].gradient, e.nodes[id].shape ?? []))
          : null,
        back
          ? this.handedOn(group, stop).map((node) =>
              heatmap(`handed on: ∂L/∂${node.label}`, node.gradient, node.shape ?? []),
            )
          : heatmap(last.label, last.value, last.shape ?? []),
        this.origin(last),
      ],
    ];
  }

  // The values outside a module that its operations read and hand gradients on to.
  handedOn(group, stop) {
    const { nodes } = this.explanation;
    const inside = (id) => this.graph.ancestors(id).includes(group.id);
    const read = stop.nodes.flatMap((id) => nodes[id].inputs).filter((id) => !inside(id) && nodes[id].gradient);
    return [...new Set(read)].slice(0, 4).map((id) => nodes[id]);
  }

  eyebrow(pass, node) {
    const where = this.explanation.moduleTitle(node.module);
    return h(
      "p",
      { class: `eyebrow ${pass.toLowerCase()}` },
      pass,
      where ? h("span", { class: "where" }, ` · ${where}`) : null,
    );
  }

  equation(written, otherwise) {
    const { explanation: e } = this;
    if (!written) return h("p", { class: "equation" }, h("code", {}, otherwise));
    return h(
      "div",
      { class: "equation", tabindex: "0", role: "group", "aria-label": "formula" },
      formula(e.mathml(written), { spoken: e.text(written) }),
    );
  }

  origin(node) {
    const source = this.explanation.source(node.source);
    if (!source) return node.about ? h("p", { class: "origin quiet" }, node.about) : null;
    return h(
      "figure",
      { class: "origin" },
      h(
        "figcaption",
        {},
        `${source.file.split(/[\\/]/).at(-1)}:${source.line}`,
        source.function && source.function !== "<module>" ? ` in ${source.function}` : "",
      ),
      h("pre", { tabindex: "0" }, h("code", {}, source.text)),
    );
  }

  link(node, text) {
    return h("button", { class: "link", onclick: () => this.go(node) }, text);
  }
}

// The forward formula with numbers, where everything is one number.
function substitution(node, operands) {
  const value = single(node.value);
  const numbers = operands.map((operand) => single(operand.value));
  if (value === null || !numbers.length || numbers.some((n) => n === null)) return null;
  const sign = { add: " + ", multiply: " · ", subtract: " − ", divide: " / " }[node.primitive];
  const left = sign
    ? numbers.map((n, i) => (i ? factor(n) : number(n))).join(sign)
    : `${node.primitive}(${numbers.map((n) => number(n)).join(", ")})`;
  return h("p", { class: "arithmetic" }, left, " = ", h("b", {}, number(value)));
}

function part(name, value, written = factor) {
  return h("span", { class: `part ${name}` }, h("small", {}, name), written(value));
}

function listed(names) {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}
