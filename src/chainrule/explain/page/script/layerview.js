// Layer by layer: the closed form of each, checked against the gradient, with its symbols' numbers.

import { h, replace } from "./dom.js";
import { real } from "./explanation.js";
import { heatmap } from "./heatmap.js";
import { number } from "./numbers.js";
import { layerEquations } from "./equations.js";

export class LayerView {
  constructor(element, explanation, go) {
    this.explanation = explanation;
    this.detail = h("div", { class: "layer-detail", "aria-live": "polite" });
    const { layers } = explanation;
    this.buttons = layers.map((layer, i) =>
      h(
        "button",
        { class: "choice", "aria-pressed": "false", onclick: () => this.show(i) },
        titled(layer.title),
        h("span", { class: "quiet" }, flow(layer)),
      ),
    );
    replace(
      element,
      h("h2", {}, "Layer by layer, from the loss back"),
      h(
        "div",
        { class: "two-columns" },
        h("nav", { class: "choices", "aria-label": "Layers" }, this.buttons),
        this.detail,
      ),
    );
    this.go = go;
    if (layers.length) this.show(0);
  }

  /** Show the same layer with other numbers. */
  update() {
    this.show(this.index);
  }

  show(index) {
    this.index = index;
    const { explanation: e } = this;
    const layer = e.layers[index];
    this.buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === index)));
    const source = e.source(layer.source);
    const maps = layer.legend
      .map(({ node }) => (node === null || node === undefined ? null : e.nodes[node]))
      .filter(Boolean);
    replace(
      this.detail,
      h("h3", {}, layer.title),
      h("p", { class: "sentence" }, layer.sentence),
      layerEquations(e, layer),
      source
        ? h(
            "p",
            { class: "quiet" },
            h("code", {}, `${source.file.split(/[\\/]/).at(-1)}:${source.line}  ${source.text}`),
          )
        : null,
      layer.steps.length
        ? h(
            "p",
            {},
            h(
              "button",
              { class: "plain", onclick: () => this.go(e.steps[layer.steps[0]].node, "backward") },
              "Show in the graph",
            ),
          )
        : null,
      h(
        "div",
        { class: "gallery" },
        maps.map((node) => [
          heatmap(node.label, node.value, node.shape ?? [], { compact: true }),
          node.gradient ? heatmap(`∂L/∂${node.label}`, node.gradient, node.shape ?? [], { compact: true }) : null,
        ]),
      ),
    );
  }
}

// "fc1 = Linear(784, 256)": the name for the eye, the layer below it.
function titled(title) {
  const at = title.indexOf(" = ");
  return at < 0
    ? h("b", {}, title)
    : [h("b", {}, title.slice(0, at)), h("span", { class: "made" }, title.slice(at + 3))];
}

function flow(layer) {
  const came = `‖∂L‖ ${number(real(layer.upstream), 3)}`;
  return layer.result === null || layer.result === undefined ? came : `${came} → ${number(real(layer.result), 3)}`;
}
