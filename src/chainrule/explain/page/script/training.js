// Training over time: one statistic of every layer as a map of layers × steps, the loss above it
// on the same axis, and the numbers at the moment that the reader points to.

import { css, signedColour, sizeColour, tone } from "./colour.js";
import { h, replace, svg } from "./dom.js";
import { number, percent } from "./numbers.js";

const STATISTICS = [
  { key: "grad", name: "rms ∂L/∂output", logarithmic: true },
  { key: "grad_norm", name: "‖∂L/∂θ‖", logarithmic: true },
  { key: "update_ratio", name: "‖Δθ‖ / ‖θ‖", logarithmic: true },
  { key: "std", name: "std of the outputs", logarithmic: true },
  { key: "mean", name: "mean of the outputs", signed: true },
  { key: "zeros", name: "share of zeros" },
];
const LABEL = 150;
const ROW = 26;

export class TrainingView {
  /** `run` is what explain/page/training.py read from a run's folder. */
  constructor(element, run, speak) {
    this.run = run;
    this.speak = speak;
    this.at = run.steps.length - 1;
    const known = STATISTICS.filter(({ key }) => run.statistics[key]);
    this.choice = h(
      "select",
      { id: "statistic", onchange: () => this.choose() },
      known.map(({ key, name }) => h("option", { value: key }, name)),
    );
    this.slider = h("input", {
      type: "range",
      id: "moment",
      min: "0",
      max: String(run.steps.length - 1),
      value: String(this.at),
      oninput: () => this.scrub(Number(this.slider.value)),
    });
    this.canvas = h("canvas", {
      class: "map",
      role: "img",
      onpointermove: (event) => this.point(event),
      onpointerdown: (event) => this.point(event),
    });
    this.cursor = h("div", { class: "cursor", "aria-hidden": "true" });
    this.curve = h("div", { class: "curve" });
    this.labels = h(
      "ol",
      { class: "rows" },
      run.layers.map(({ name }) => h("li", {}, name)),
    );
    this.scale = h("p", { class: "scale-line" });
    this.table = h("div", { "aria-live": "off" });
    replace(
      element,
      h("h2", {}, "Training over time"),
      h(
        "p",
        { class: "lead" },
        `Run ${run.name}: ${run.steps.length} of ${run.last_step.toLocaleString("en")} steps were measured layer by layer.`,
      ),
      h("p", { class: "choose" }, h("label", { for: "statistic" }, "Statistic ", this.choice)),
      h(
        "div",
        { class: "timeline", variables: { label: `${LABEL}px`, row: `${ROW}px` } },
        this.curve,
        this.labels,
        h("div", { class: "map-frame" }, this.canvas, this.cursor),
        h(
          "label",
          { class: "moment", for: "moment" },
          h("span", { class: "visually-hidden" }, "Step of training"),
          this.slider,
        ),
      ),
      this.scale,
      this.table,
    );
    this.choose();
  }

  choose() {
    this.statistic = STATISTICS.find(({ key }) => key === this.choice.value);
    this.paint();
    this.scrub(this.at);
  }

  /** Paint again, after the colours changed. */
  repaint() {
    this.choose();
  }

  paint() {
    const { run, statistic } = this;
    const values = run.statistics[statistic.key];
    const known = values.flat().filter((v) => v !== null && Number.isFinite(v) && (!statistic.logarithmic || v > 0));
    this.range = statistic.logarithmic
      ? [Math.log10(Math.min(...known)), Math.log10(Math.max(...known))]
      : statistic.signed
        ? [0, Math.max(...known.map(Math.abs), 1e-30)]
        : [0, Math.max(...known, 1e-30)];
    this.canvas.width = run.steps.length;
    this.canvas.height = run.layers.length;
    this.canvas.style.height = `${ROW * run.layers.length}px`;
    this.canvas.setAttribute(
      "aria-label",
      `${statistic.name} of ${run.layers.length} layers over ${run.steps.length} measured steps; the table below has the numbers of the chosen step`,
    );
    const context = this.canvas.getContext("2d");
    const which = tone();
    values.forEach((row, y) =>
      row.forEach((value, x) => {
        if (value === null) return;
        context.fillStyle = css(this.colour(value, which));
        context.fillRect(x, y, 1, 1);
      }),
    );
    replace(this.scale, this.legend(which));
    this.drawCurve();
  }

  colour(value, which) {
    const [low, high] = this.range;
    if (this.statistic.signed) return signedColour(value, high, which);
    if (this.statistic.logarithmic)
      return value > 0
        ? sizeColour(0.08 + (0.92 * (Math.log10(value) - low)) / (high - low || 1), which)
        : sizeColour(0, which);
    return sizeColour((value - low) / (high - low || 1), which);
  }

  legend(which) {
    const [low, high] = this.range;
    const { signed, logarithmic } = this.statistic;
    const [from, to] = signed ? [-high, high] : logarithmic ? [10 ** low, 10 ** high] : [low, high];
    const stops = Array.from({ length: 17 }, (_, i) => {
      const t = i / 16;
      return css(this.colour(logarithmic ? 10 ** (low + t * (high - low)) : from + t * (to - from), which));
    });
    const bar = h("span", { class: "bar" });
    bar.style.background = `linear-gradient(to right, ${stops.join(",")})`;
    return h(
      "span",
      { class: "legend" },
      h("span", {}, number(from, 2)),
      bar,
      h("span", {}, number(to, 2)),
      logarithmic ? h("span", { class: "quiet" }, "logarithmic") : null,
    );
  }

  drawCurve() {
    const points = this.run.losses.filter(([, loss]) => Number.isFinite(loss));
    if (points.length < 2) return;
    const width = 600;
    const height = 70;
    const first = this.run.steps[0];
    const last = this.run.steps.at(-1) || 1;
    const most = Math.max(...points.map(([, loss]) => loss));
    const path = points
      .filter(([step]) => step >= first && step <= last)
      .map(
        ([step, loss]) =>
          `${(((step - first) / (last - first || 1)) * width).toFixed(1)},${(height - 4 - (loss / most) * (height - 10)).toFixed(1)}`,
      );
    replace(
      this.curve,
      h("span", { class: "curve-label" }, "loss"),
      svg(
        "svg",
        {
          viewBox: `0 0 ${width} ${height}`,
          preserveAspectRatio: "none",
          role: "img",
          "aria-label": `loss from ${number(points[0][1])} to ${number(points.at(-1)[1])}`,
        },
        svg("polyline", { points: path.join(" ") }),
      ),
    );
  }

  point(event) {
    const { width } = this.canvas.getBoundingClientRect();
    const x = Math.floor((event.offsetX / width) * this.run.steps.length);
    this.scrub(Math.max(0, Math.min(this.run.steps.length - 1, x)));
  }

  /** Go to a neighbouring moment by the keyboard. */
  move(by) {
    this.scrub(Math.max(0, Math.min(this.run.steps.length - 1, this.at + by)));
    this.speak(`step ${this.run.steps[this.at]}`);
  }

  scrub(at) {
    this.at = at;
    this.slider.value = String(at);
    const step = this.run.steps[at];
    this.slider.setAttribute("aria-valuetext", `step ${step + 1}`);
    this.cursor.style.setProperty("--at", String((at + 0.5) / this.run.steps.length));
    const known = STATISTICS.filter(({ key }) => this.run.statistics[key]);
    replace(
      this.table,
      h(
        "table",
        { class: "numbers cards", role: "table" },
        h("caption", {}, `Step ${(step + 1).toLocaleString("en")}`, lossAt(this.run.losses, step)),
        h(
          "thead",
          {},
          h(
            "tr",
            { role: "row" },
            h("th", { scope: "col", role: "columnheader" }, "layer"),
            known.map(({ name }) => h("th", { scope: "col", role: "columnheader" }, name)),
          ),
        ),
        h(
          "tbody",
          {},
          this.run.layers.map(({ name, kind }, i) =>
            h(
              "tr",
              { role: "row" },
              h("th", { scope: "row", role: "rowheader" }, name, " ", h("span", { class: "quiet" }, kind)),
              known.map(({ key, name: statistic }) => {
                const value = this.run.statistics[key][i][at];
                return h(
                  "td",
                  { class: key === this.statistic.key ? "chosen" : null, role: "cell", "data-label": statistic },
                  value === null ? "" : key === "zeros" ? percent(value) : number(value, 3),
                );
              }),
            ),
          ),
        ),
      ),
    );
  }
}

function lossAt(losses, step) {
  const before = losses.filter(([at]) => at <= step + 1).at(-1) ?? losses[0];
  return before ? `: loss ${number(before[1])}` : "";
}
