// Colour scales that people with any colour vision can read: signed values run from blue over the
// surface's own colour to orange; sizes run from the surface's colour to one dark hue.

const SIGNED = {
  light: {
    negative: [
      [33, 82, 150],
      [120, 163, 210],
    ],
    middle: [250, 249, 246],
    positive: [
      [179, 84, 6],
      [236, 166, 92],
    ],
  },
  dark: {
    negative: [
      [134, 184, 244],
      [58, 103, 160],
    ],
    middle: [32, 35, 41],
    positive: [
      [255, 178, 102],
      [158, 88, 30],
    ],
  },
};
const SIZE = {
  light: [
    [250, 249, 246],
    [178, 205, 214],
    [74, 132, 155],
    [17, 62, 87],
  ],
  dark: [
    [32, 35, 41],
    [38, 78, 98],
    [76, 150, 176],
    [190, 228, 238],
  ],
};
// Of three classes and more: the ends of the signed scale, then hues that differ in lightness, too.
const CLASSES = {
  light: [
    [33, 82, 150],
    [179, 84, 6],
    [18, 128, 98],
    [126, 62, 158],
    [150, 128, 0],
    [186, 40, 98],
    [0, 128, 160],
    [112, 78, 58],
    [96, 112, 20],
    [96, 102, 112],
  ],
  dark: [
    [134, 184, 244],
    [255, 178, 102],
    [100, 214, 172],
    [205, 160, 240],
    [226, 208, 92],
    [255, 142, 182],
    [104, 212, 238],
    [206, 172, 146],
    [182, 206, 100],
    [186, 192, 202],
  ],
};
const BROKEN = { light: [190, 30, 110], dark: [255, 92, 168] };

/** "dark" or "light", whichever the page shows now. */
export function tone() {
  const chosen = document.documentElement.dataset.theme;
  if (chosen) return chosen;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

/** [r, g, b] of a value beside the largest magnitude `limit`. NaN and infinity have a colour of their own. */
export function signedColour(value, limit, which = tone()) {
  if (!Number.isFinite(value)) return BROKEN[which];
  const scale = SIGNED[which];
  // The square root lets small values be seen beside large ones.
  const t = limit > 0 ? Math.sqrt(Math.min(1, Math.abs(value) / limit)) : 0;
  const [end, half] = value < 0 ? scale.negative : scale.positive;
  return blend([scale.middle, half, end], t);
}

/** [r, g, b] of one of several classes, `sure` from 0 (the surface) to 1. */
export function classColour(label, sure = 1, which = tone()) {
  const palette = CLASSES[which];
  return blend([SIGNED[which].middle, palette[label % palette.length]], Math.min(1, Math.max(0, sure)));
}

/** [r, g, b] of t between 0 (nothing) and 1 (the largest). */
export function sizeColour(t, which = tone()) {
  if (!Number.isFinite(t)) return BROKEN[which];
  return blend(SIZE[which], Math.min(1, Math.max(0, t)));
}

function blend(stops, t) {
  const position = t * (stops.length - 1);
  const index = Math.min(stops.length - 2, Math.floor(position));
  const part = position - index;
  return stops[index].map((from, channel) => Math.round(from + (stops[index + 1][channel] - from) * part));
}

/** The colour as CSS text. */
export function css(colour) {
  return `rgb(${colour.join(" ")})`;
}
