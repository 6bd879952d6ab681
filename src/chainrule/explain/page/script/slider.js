// Sliders that follow what the server says, except while the reader holds them.

import { h, replace } from "./dom.js";
import { number } from "./numbers.js";

const FINE = 1000;
const SETTLE = 400; // milliseconds after the last touch during which the server's word does not move it

/** A labelled slider: { element, set(value) }. A value beyond its ends widens it. */
export function slider(label, low, high, { id, logarithmic = false, whole = false, changed }) {
  let ends = [low, high];
  let touched = -Infinity;
  const output = h("output", { for: id });
  const input = h("input", {
    type: "range",
    id,
    min: "0",
    max: String(whole ? high - low : FINE),
    step: "1",
    oninput: () => move(),
  });
  const valueAt = (position) => {
    if (whole) return ends[0] + position;
    const t = position / FINE;
    const value = logarithmic ? ends[0] * (ends[1] / ends[0]) ** t : ends[0] + t * (ends[1] - ends[0]);
    return Number(value.toPrecision(3));
  };
  const positionOf = (value) => {
    if (whole) return value - ends[0];
    const t = logarithmic
      ? Math.log(value / ends[0]) / Math.log(ends[1] / ends[0])
      : (value - ends[0]) / (ends[1] - ends[0]);
    return Math.round(t * FINE);
  };
  const write = (value) => {
    replace(output, number(value, 3));
    input.setAttribute("aria-valuetext", number(value, 3));
  };
  const move = () => {
    touched = performance.now();
    const value = valueAt(Number(input.value));
    write(value);
    changed(value);
  };
  return {
    element: h("div", { class: "slider" }, h("label", { for: id }, label), input, output),
    input,
    set(value) {
      if (performance.now() - touched < SETTLE || value === null || value === undefined) return;
      if (!logarithmic && !whole && Math.abs(value) > ends[1]) ends = [-1.5 * Math.abs(value), 1.5 * Math.abs(value)];
      input.value = String(positionOf(value));
      write(value);
    },
  };
}

/** The slider of one entry of a parameter, with the derivative of the loss by it: { element, set(value, gradient) }. */
export function parameterSlider(name, shape, entry, changed) {
  const indices = [];
  let rest = entry;
  for (const length of [...shape].reverse()) {
    indices.unshift(rest % length);
    rest = Math.floor(rest / length);
  }
  const label = indices.length ? `${name}[${indices.join(", ")}]` : name;
  const control = slider(label, -3, 3, {
    id: `studio-weight-${name}-${entry}`,
    changed: (value) => changed(entry, value),
  });
  const gradient = h("span", { class: "derivative" });
  control.element.append(gradient);
  return {
    element: control.element,
    set(value, derivative) {
      control.set(value);
      replace(
        gradient,
        derivative === null || derivative === undefined
          ? ""
          : `∂L/∂${shape.length ? "w" : name} = ${number(derivative, 3)}`,
      );
    },
  };
}
