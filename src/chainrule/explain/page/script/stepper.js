// The controls below the graph: back, on, play, and a slider over both passes.

import { h, replace, svg } from "./dom.js";

const SECONDS = 1.4;
const SHAPES = {
  first: "M5 4v12M16 4 7.5 10l8.5 6",
  back: "M16.5 10H4M9 4.5 3.5 10 9 15.5",
  on: "M3.5 10H16M11 4.5 16.5 10 11 15.5",
  play: "M6.5 4.2v11.6L16 10z",
  pause: "M7 4.5v11M13 4.5v11",
};

export class Stepper {
  constructor(element, go) {
    this.go = go;
    this.index = -1;
    const button = (id, label, shape, action) =>
      h("button", { id, class: "round", "aria-label": label, title: label, onclick: action }, icon(shape));
    this.first = button("step-first", "To the start", "first", () => go(-1));
    this.back = button("step-back", "One step back (←)", "back", () => go(this.index - 1));
    this.on = button("step-on", "Next step (→)", "on", () => go(this.index + 1));
    this.play = button("step-play", "Play", "play", () => this.toggle());
    this.slider = h("input", {
      id: "step-slider",
      type: "range",
      min: "-1",
      "aria-label": "Step of the computation",
      oninput: () => go(Number(this.slider.value)),
    });
    this.label = h("output", { id: "step-label", for: "step-slider" });
    replace(element, this.first, this.back, this.play, this.on, this.slider, this.label);
  }

  update(course) {
    const { index, length, forwardCount, stop } = course;
    this.index = index;
    this.length = length;
    this.slider.max = String(length - 1);
    this.slider.value = String(index);
    this.slider.style.setProperty("--split", `${(100 * (forwardCount + 0.5)) / (length || 1)}%`);
    this.back.disabled = this.first.disabled = index < 0;
    this.on.disabled = index >= length - 1;
    this.position = positionText(index, length, forwardCount);
    this.slider.setAttribute("aria-valuetext", stop ? `${stop.pass} ${this.position}` : "overview");
    this.label.className = stop?.pass ?? "";
    replace(this.label, stop ? [h("b", {}, stop.pass), ` ${this.position}`] : "overview");
    if (this.on.disabled) this.pause();
  }

  toggle() {
    if (this.timer) this.pause();
    else {
      if (this.on.disabled) this.go(-1);
      this.timer = setInterval(() => this.go(this.index + 1), 1000 * SECONDS);
      this.name("Pause", "pause");
    }
  }

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    this.name("Play", "play");
  }

  name(name, shape) {
    this.play.setAttribute("aria-label", name);
    this.play.title = name;
    replace(this.play, icon(shape));
  }
}

function positionText(index, length, forwardCount) {
  return index < forwardCount
    ? `${index + 1} of ${forwardCount}`
    : `${index - forwardCount + 1} of ${length - forwardCount}`;
}

function icon(shape) {
  return svg(
    "svg",
    { class: `icon ${shape}`, viewBox: "0 0 20 20", width: 16, height: 16, "aria-hidden": "true" },
    svg("path", { d: SHAPES[shape] }),
  );
}
