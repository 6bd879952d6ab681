// The network of a problem in the plane, drawn: the inputs that it reads, each hidden unit with what
// it does over the plane, and its weights (or the loss's derivatives by them) as lines.

import { css, signedColour, tone } from "./colour.js";
import { h, replace, svg } from "./dom.js";
import { number } from "./numbers.js";
import { paintField } from "./plane.js";

const ROW = 38; // pixels from one unit to the next below
const FIRST = 17; // where the inputs stand, in percent of the width
const LAST = 92; // and the output
const SHOWN = { weight: "weights", gradient: "∂L/∂weight" };

export class NetworkPicture {
  /** `read` takes the names of the inputs to read; `chosen` a parameter's name and the entry of a line. */
  constructor(read, chosen) {
    Object.assign(this, { read, chosen, shape: "" });
    this.wires = svg("svg", { class: "wires", viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" });
    this.frame = h("div", { class: "network-picture", role: "group" });
    this.choice = h(
      "select",
      { id: "studio-lines", onchange: () => this.draw() },
      Object.entries(SHOWN).map(([key, name]) => h("option", { value: key }, name)),
    );
    this.element = h(
      "section",
      { class: "wired", "aria-label": "The network" },
      h(
        "p",
        { class: "wired-head" },
        h("label", { for: "studio-lines" }, "Lines show ", this.choice),
        h("span", { class: "quiet" }, "blue below 0, orange above; by thickness"),
      ),
      this.frame,
    );
  }

  update(state) {
    this.state = state;
    const shape = JSON.stringify([state.hidden.map(({ units, count }) => [units.length, count]), state.features.length]);
    if (shape !== this.shape) {
      this.shape = shape;
      this.build();
    }
    this.draw();
  }

  build() {
    const { features, hidden } = this.state;
    const columns = hidden.length + 1;
    const rows = Math.max(features.length, ...hidden.map(({ units }) => units.length));
    const down = (i, count) => ((i + 0.5 + (rows - count) / 2) / rows) * 100;
    const across = (column) => FIRST + ((LAST - FIRST) * column) / columns;
    const node = (column, i, count, element) => {
      element.style.left = `${across(column)}%`;
      element.style.top = `${down(i, count)}%`;
      return element;
    };
    const picture = (size) => h("canvas", { width: size, height: size });
    this.frame.style.height = `${ROW * rows}px`;
    this.buttons = features.map(({ name }, i) =>
      node(
        0,
        i,
        features.length,
        h("button", { class: "node feature", onclick: () => this.toggle(name) }, h("span", {}, name), picture(16)),
      ),
    );
    this.units = hidden.map(({ layer, units, size }, k) =>
      units.map((_, i) => {
        const canvas = picture(size);
        canvas.setAttribute("role", "img");
        canvas.setAttribute("aria-label", `unit ${i} of ${layer}: blue below 0, orange above`);
        return node(k + 1, i, units.length, h("span", { class: "node" }, canvas));
      }),
    );
    const more = hidden.map(({ count, units }, k) =>
      count > units.length
        ? node(k + 1, units.length - 0.28, units.length, h("span", { class: "node more" }, `+ ${count - units.length}`))
        : null,
    );
    this.output = node(columns, 0, 1, h("span", { class: "node" }, picture(this.state.plane.size)));
    this.places = [
      features.map((_, i) => [across(0), down(i, features.length)]),
      ...hidden.map(({ units }, k) => units.map((_, i) => [across(k + 1), down(i, units.length)])),
      [[across(columns), down(0, 1)]],
    ];
    replace(this.frame, this.wires, this.buttons, this.units, more, this.output);
  }

  toggle(name) {
    const read = this.state.features.filter((f) => (f.name === name ? !f.read : f.read)).map((f) => f.name);
    if (read.length) this.read(read);
  }

  draw() {
    const { features, hidden, plane } = this.state;
    const which = tone();
    const alone = features.filter(({ read }) => read).length === 1;
    features.forEach(({ name, read, data }, i) => {
      const button = this.buttons[i];
      button.setAttribute("aria-pressed", String(read));
      button.setAttribute("aria-label", `input ${name}`);
      button.title = read ? (alone ? "The network has to read something" : `Do not read ${name}`) : `Read ${name}, too`;
      paintField(button.querySelector("canvas"), data, which);
    });
    hidden.forEach(({ units }, k) =>
      units.forEach((data, i) => paintField(this.units[k][i].firstChild, data, which)),
    );
    paintField(this.output.firstChild, plane.data, which, plane.classes);
    const read = features.filter((f) => f.read).map((f) => f.name);
    this.frame.setAttribute(
      "aria-label",
      `The network reads ${read.join(", ")}; hidden units: ${hidden.map(({ count }) => count).join(", ")}; one output`,
    );
    this.drawWires(which);
  }

  drawWires(which) {
    const shown = this.choice.value;
    const { features, parameters } = this.state;
    const inputs = features.flatMap(({ read }, i) => (read ? [i] : []));
    const matrices = parameters.filter(({ shape, values }) => shape.length === 2 && values);
    const lines = matrices.flatMap((matrix, k) => {
      const [outputs, width] = matrix.shape;
      const from = k ? this.places[k].slice(0, width) : inputs.map((i) => this.places[0][i]);
      const to = this.places[k + 1].slice(0, outputs);
      const values = shown === "weight" ? matrix.values : (matrix.gradient ?? []);
      const most = Math.max(...values.map((v) => Math.abs(v ?? 0)), 1e-30);
      return to.flatMap(([x2, y2], o) =>
        from.map(([x1, y1], i) => {
          const entry = o * width + i;
          const value = values[entry] ?? 0;
          const half = (x1 + x2) / 2;
          const line = svg(
            "path",
            {
              d: `M${x1} ${y1}C${half} ${y1} ${half} ${y2} ${x2} ${y2}`,
              class: value === 0 ? "weight-line none" : "weight-line",
              onclick: () => this.chosen(matrix.name, entry),
            },
            svg(
              "title",
              {},
              `${matrix.name}[${o}, ${i}] = ${number(matrix.values[entry], 3)}, ∂L/∂w = ${number(matrix.gradient?.[entry] ?? null, 3)}`,
            ),
          );
          line.style.stroke = css(signedColour(value, most, which));
          line.style.strokeWidth = `${(0.6 + 4.4 * Math.abs(value / most)).toFixed(2)}px`;
          return line;
        }),
      );
    });
    replace(this.wires, lines);
  }
}
