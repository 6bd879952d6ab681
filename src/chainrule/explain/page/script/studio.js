// The studio: a small network under the reader's hands. Every change goes to the server, which
// computes forward and backward anew; what comes back is shown here and in all other views.

import { h, replace } from "./dom.js";
import { textbookLines } from "./neuron.js";
import { number, percent, shapeText } from "./numbers.js";
import { curveOf, digit, gradientBars, lossCurve, paintMatrix } from "./pictures.js";
import { planeOf, unitsOf } from "./plane.js";
import { parameterSlider, slider } from "./slider.js";
import { NetworkPicture } from "./wires.js";

const LABELS = {
  activation: "Activation",
  initialisation: "Initialisation",
  optimiser: "Optimiser",
  loss: "Loss",
  speed: "Speed",
  lr: "Learning rate",
  depth: "Hidden layers",
  width: "Width",
  seed: "Seed",
  batch: "Batch size",
  noise: "Noise of the data",
  test: "Share held back to test",
  l1: "L1 penalty (makes weights 0)",
  l2: "L2 penalty (weight decay)",
};
const WHOLE = new Set(["depth", "width", "seed", "batch"]);
const SEEDS = 40; // on the slider
const FEW = 16; // weights up to which each has a slider of its own

export class StudioView {
  /** `send` takes a command for the server. */
  constructor(element, send) {
    this.send = send;
    this.running = false;
    this.controls = h("div", { class: "controls" });
    // On a phone the picture comes first, and the settings open on demand.
    this.settings = h("details", { class: "settings" }, h("summary", {}, "Settings"), this.controls);
    const narrow = matchMedia("(max-width: 760px)");
    const fold = () => (this.settings.open = !narrow.matches);
    narrow.addEventListener("change", fold);
    fold();
    this.run = h("button", {
      class: "primary",
      id: "studio-run",
      onclick: () => send({ do: this.running ? "pause" : "run" }),
    });
    this.stepButton = h(
      "button",
      { class: "plain", id: "studio-step", onclick: () => send({ do: "step" }) },
      "One step",
    );
    this.count = h("output", { class: "count" });
    this.trouble = h("p", { class: "trouble", role: "alert" });
    this.picture = h("div", { class: "picture" });
    this.drawn = new NetworkPicture(
      (names) => send({ do: "setting", name: "features", value: names }),
      (name, entry) => this.chooseWeight(name, entry),
    );
    this.inputs = h("div", { class: "sliders" });
    this.textbook = h("div");
    this.curve = h("div", { class: "loss" });
    this.weights = h("div", { class: "weights" });
    this.bars = h("div", { class: "bars" });
    replace(
      element,
      h(
        "div",
        { class: "studio" },
        h(
          "section",
          { "aria-label": "Settings" },
          h(
            "div",
            { class: "run" },
            this.run,
            this.stepButton,
            h("button", { class: "plain", id: "studio-reset", onclick: () => send({ do: "reset" }) }, "Reset"),
            this.count,
          ),
          this.trouble,
          this.settings,
        ),
        h("section", { "aria-label": "What the network computes" }, this.picture, this.drawn.element, this.inputs, this.textbook),
        h("section", { "aria-label": "Weights and gradients" }, this.curve, this.bars, this.weights),
      ),
    );
  }

  update(state, neurons) {
    this.state = state;
    this.neurons = neurons;
    this.running = state.running;
    replace(this.run, state.running ? "Pause" : "Train");
    this.run.setAttribute("aria-pressed", String(state.running));
    this.stepButton.disabled = state.running;
    replace(this.count, `step ${state.step.toLocaleString("en")}`);
    replace(this.trouble, state.trouble);
    const shape = JSON.stringify([
      state.problem,
      Object.keys(state.settings),
      state.parameters.map((p) => [p.name, p.shape]),
    ]);
    if (shape !== this.shape) {
      this.shape = shape;
      this.buildControls(state);
      this.buildInputs(state);
      this.buildWeights(state);
    }
    for (const control of this.live) control(state);
    replace(this.curve, lossCurve(state.losses, state.loss, state.test_loss));
    replace(this.bars, gradientBars(state.parameters, state.problem ? "by the explained sample" : "of the script's loss"));
    replace(this.picture, this.pictureOf(state));
    this.drawn.element.hidden = !state.features;
    if (state.features) this.drawn.update(state);
    replace(this.textbook, state.kind === "number" && neurons.length ? textbookLines(neurons[0]) : null);
  }

  /** Paint again, after the colours changed. */
  repaint() {
    this.update(this.state, this.neurons);
  }

  complain(trouble) {
    replace(this.trouble, trouble);
  }

  lost() {
    this.complain("The studio's server has stopped. Start it again with `chainrule studio`.");
    for (const control of [this.run, this.stepButton]) control.disabled = true;
  }

  buildControls(state) {
    this.live = [];
    const { settings, choices, ranges } = state;
    const select = (id, label, options, value, changed) => {
      const element = h(
        "select",
        { id, onchange: () => changed(element.value) },
        options.map(([key, text]) => h("option", { value: key }, text)),
      );
      element.value = value;
      return [h("label", { for: id }, label, element), element];
    };
    const rows = [];
    if (state.problem) {
      const [row, element] = select("studio-problem", "Problem", [], null, (name) => this.send({ do: "problem", name }));
      const groups = [...new Set(state.problems.map(({ group }) => group))];
      replace(
        element,
        groups.map((label) =>
          h(
            "optgroup",
            { label },
            state.problems
              .filter(({ group }) => group === label)
              .map(({ name, title }) => h("option", { value: name }, title)),
          ),
        ),
      );
      element.value = state.problem;
      rows.push(row);
    } else {
      rows.push(h("p", {}, h("b", {}, state.title)));
    }
    for (const [name, options] of Object.entries(choices)) {
      const [row, element] = select(
        `studio-${name}`,
        LABELS[name],
        options.map((o) => [o, o]),
        settings[name],
        (value) => this.send({ do: "setting", name, value }),
      );
      rows.push(row);
      this.live.push((now) => (element.value = now.settings[name]));
    }
    for (const [name, [low, high]] of Object.entries(ranges)) {
      const logarithmic = name === "lr";
      const control = slider(LABELS[name], logarithmic ? 1e-4 : low, logarithmic ? 10 : name === "seed" ? SEEDS : high, {
        id: `studio-${name}`,
        logarithmic,
        whole: WHOLE.has(name),
        changed: (value) => this.send({ do: "setting", name, value }),
      });
      control.set(settings[name]);
      rows.push(control.element);
      this.live.push((now) => control.set(now.settings[name]));
    }
    replace(this.controls, rows);
  }

  buildInputs(state) {
    const rows = [];
    (state.inputs ?? []).forEach(({ name }, entry) => {
      const control = slider(name === "y" ? "target y" : `input ${name}`, -3, 3, {
        id: `studio-input-${entry}`,
        changed: (value) => this.send({ do: "input", entry, value }),
      });
      rows.push(control.element);
      this.live.push((now) => control.set(now.inputs[entry].value));
    });
    if (state.samples > 1) {
      const control = slider("sample", 0, state.samples - 1, {
        id: "studio-sample",
        whole: true,
        changed: (index) => this.send({ do: "sample", index }),
      });
      rows.push(control.element);
      this.live.push((now) => control.set(now.sample));
    }
    replace(this.inputs, rows.length ? h("h3", {}, "The explained sample") : null, rows);
  }

  buildWeights(state) {
    const total = state.parameters.reduce((sum, { values }) => sum + (values ? values.length : Infinity), 0);
    const weigh = (parameter) => (entry, value) => this.send({ do: "weight", parameter, entry, value });
    if (total <= FEW) {
      const rows = state.parameters.flatMap((p, index) =>
        p.values.map((_, entry) => {
          const control = parameterSlider(p.name, p.shape, entry, weigh(p.name));
          this.live.push((now) =>
            control.set(now.parameters[index].values[entry], now.parameters[index].gradient?.[entry]),
          );
          return control.element;
        }),
      );
      replace(this.weights, h("h3", {}, "Weights, and ∂L/∂weight"), rows);
      return;
    }
    const known = state.parameters.filter((p) => p.values);
    if (!known.length) {
      replace(this.weights);
      return;
    }
    this.chosen = known.some((p) => p.name === this.chosen) ? this.chosen : known[0].name;
    this.entry = 0;
    const choice = h(
      "select",
      { id: "studio-parameter", onchange: () => this.chooseParameter(choice.value) },
      known.map((p) => h("option", { value: p.name }, `${p.name}  ${shapeText(p.shape)}`)),
    );
    choice.value = this.chosen;
    this.oneWeight = h("div", { class: "one-weight" });
    this.map = paintMatrix((entry) => this.chooseEntry(entry));
    replace(
      this.weights,
      h("h3", {}, "Weights"),
      h("label", { for: "studio-parameter" }, h("span", { class: "visually-hidden" }, "Parameter"), choice),
      this.map.element,
      this.oneWeight,
    );
    this.chooseEntry(0);
    this.live.push((now) => {
      const p = now.parameters.find((candidate) => candidate.name === this.chosen);
      this.map.paint(p, this.entry);
      this.control.set(p.values[this.entry], p.gradient?.[this.entry]);
    });
  }

  /** Choose a weight by its line in the drawing of the network. */
  chooseWeight(name, entry) {
    const few = document.getElementById(`studio-weight-${name}-${entry}`);
    if (few) {
      few.focus();
      return;
    }
    this.chosen = name;
    document.getElementById("studio-parameter").value = name;
    this.chooseEntry(entry);
  }

  chooseParameter(name) {
    this.chosen = name;
    this.chooseEntry(0);
    this.map.paint(this.parameter(), 0);
  }

  parameter() {
    return this.state.parameters.find((p) => p.name === this.chosen);
  }

  chooseEntry(entry) {
    const p = this.parameter();
    this.entry = entry;
    this.control = parameterSlider(p.name, p.shape, entry, (at, value) =>
      this.send({ do: "weight", parameter: p.name, entry: at, value }),
    );
    this.control.set(p.values[entry], p.gradient?.[entry]);
    this.map.paint(p, entry);
    replace(this.oneWeight, this.control.element);
  }

  pictureOf(state) {
    if (state.kind === "number") return curveOf(state.curve, state.inputs);
    if (state.plane) {
      return [
        planeOf(
          state.plane,
          (x) => x.forEach((value, entry) => this.send({ do: "input", entry, value })),
          (index) => this.send({ do: "sample", index }),
        ),
        state.features ? null : unitsOf(state.hidden),
      ];
    }
    if (state.kind === "image") {
      return [
        digit(state.image, state.probabilities, state.label),
        h("p", { class: "quiet" }, `${percent(state.accuracy)} of the first 500 digits are right`),
      ];
    }
    return h(
      "p",
      { class: "lead" },
      "The network of your script. Its weights are on the right; the other views explain the gradient of its loss.",
      h("br"),
      `${number(state.loss)} is the latest loss.`,
    );
  }
}
