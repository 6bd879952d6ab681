// The plane of two inputs: what the network answers everywhere, the data on it, and small pictures over it.

import { classColour, css, signedColour, tone } from "./colour.js";
import { h, svg } from "./dom.js";
import { number } from "./numbers.js";

const SIDE = 340;
const KEYED = 10; // classes named below the plane

/** The plane, coloured by what the network answers, with the data on it. */
export function planeOf({ size, reach, centre, among, largest, data, classes, points, here }, moved, chosen) {
  const which = tone();
  const canvas = h("canvas", { class: "map", width: size, height: size, role: "img", "aria-label": spoken(among, largest) });
  paintField(canvas, data, which, classes);
  const x = (v) => ((v - centre[0] + reach) / (2 * reach)) * SIDE;
  const y = (v) => SIDE - ((v - centre[1] + reach) / (2 * reach)) * SIDE;
  const colour = (c) => css(among > 2 ? classColour(c, 1, which) : signedColour(c, 1, which));
  const radius = points.length > 20 ? 3.6 : 7;
  const overlay = svg(
    "svg",
    { class: "points", viewBox: `0 0 ${SIDE} ${SIDE}`, "aria-hidden": "true" },
    points.map(([px, py, c, held], index) =>
      svg("circle", {
        cx: x(px),
        cy: y(py),
        r: radius,
        fill: colour(c),
        variables: { colour: colour(c) },
        class: `datum${held ? " held" : ""}${among < 3 && Math.abs(c) < 0.2 ? " neutral" : ""}`,
        onclick: here ? (event) => (event.stopPropagation(), chosen(index)) : null,
      }),
    ),
    here ? svg("circle", { class: "here-ring", cx: x(here[0]), cy: y(here[1]), r: 11 }) : null,
  );
  if (here) {
    overlay.addEventListener("click", (event) => {
      const frame = overlay.getBoundingClientRect();
      const px = ((event.clientX - frame.left) / frame.width) * 2 * reach - reach + centre[0];
      const py = reach - ((event.clientY - frame.top) / frame.height) * 2 * reach + centre[1];
      moved([px, py].map((v) => Number(v.toFixed(3))));
    });
  }
  const held = points.some((point) => point[3]) ? " Hollow points are held back to test." : "";
  return h(
    "figure",
    {},
    h("div", { class: "plane" }, canvas, overlay),
    key(among, largest, which),
    h(
      "figcaption",
      { class: "quiet" },
      here
        ? `The ring is the explained sample: click a point or anywhere to choose another.${held}`
        : "What the model of your script answers over its two inputs, with its data.",
    ),
  );
}

function spoken(among, largest) {
  if (!among) return `What the network answers over the plane: blue for ${number(-largest)}, orange for ${number(largest)}`;
  if (among === 2) return "Decision boundary: blue for class 0, orange for class 1";
  return `Decision regions of ${among} classes; the stronger a colour, the surer the network`;
}

// Which colour stands for what.
function key(among, largest, which) {
  const names = among
    ? Array.from({ length: Math.min(among, KEYED) }, (_, label) => [`class ${label}`, classColour(label, 1, which)])
    : [-1, 0, 1].map((value) => [number(value * largest), signedColour(value, 1, which)]);
  return h(
    "ul",
    { class: "colour-key", "aria-label": "Colours" },
    names.map(([name, colour]) =>
      h("li", {}, h("span", { class: "swatch", variables: { colour: css(colour) }, "aria-hidden": "true" }), name),
    ),
  );
}

/** Paint signed bytes of a square as colours; of classes, their hue by how sure the network is. */
export function paintField(canvas, data, which, classes = null) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const bytes = atob(data);
  const labels = classes === null ? null : atob(classes);
  for (let i = 0; i < bytes.length; i++) {
    const value = ((bytes.charCodeAt(i) << 24) >> 24) / 127;
    const colour = labels
      ? classColour(labels.charCodeAt(i), 0.12 + 0.5 * Math.max(0, value), which)
      : signedColour(0.62 * value * Math.abs(value), 1, which);
    image.data.set([...colour, 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
}

/** What each hidden unit of a script's network does over the plane, a row of small pictures for each layer. */
export function unitsOf(layers) {
  if (!layers?.length) return null;
  const which = tone();
  const picture = (size, data, words) => {
    const canvas = h("canvas", { width: size, height: size, role: "img", "aria-label": words });
    paintField(canvas, data, which);
    return canvas;
  };
  return h(
    "div",
    { class: "units" },
    h("h3", {}, "Hidden units over the plane"),
    layers.map(({ layer, count, size, units }) =>
      h(
        "div",
        { class: "unit-row" },
        h("span", { class: "quiet" }, layer),
        units.map((data, unit) => picture(size, data, `unit ${unit} of ${layer}: blue below 0, orange above`)),
        count > units.length ? h("span", { class: "quiet" }, `+ ${count - units.length}`) : null,
      ),
    ),
  );
}
