// A layer's closed form, as the layer view and the panel of a closed module show it.

import { h } from "./dom.js";
import { real } from "./explanation.js";
import { formula } from "./formula.js";
import { number, shapeText } from "./numbers.js";

/** A layer's closed form: equations with what they mean, and the symbols in them. */
export function layerEquations(explanation, layer) {
  return h(
    "div",
    { class: "closed-form" },
    h(
      "dl",
      { class: "equations" },
      layer.equations.map(({ formula: written, meaning }) => [
        h("dt", {}, formula(explanation.mathml(written), { spoken: explanation.text(written) })),
        h("dd", {}, meaning),
      ]),
    ),
    layer.legend.length > 0 &&
      h(
        "p",
        { class: "legend-line" },
        layer.legend.map(({ symbol, meaning, shape }) =>
          h(
            "span",
            {},
            formula(explanation.mathml(symbol), { block: false, spoken: explanation.text(symbol) }),
            ` ${meaning}${shape ? ` (${shapeText(shape)})` : ""}`,
          ),
        ),
      ),
    layer.agreement === null || layer.agreement === undefined
      ? null
      : h(
          "p",
          { class: "checked" },
          `✓ differs from the gradient by ${number(real(layer.agreement), 2)} at most (relative)`,
        ),
  );
}
