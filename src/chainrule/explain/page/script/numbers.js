// Numbers for reading: a true minus sign, four significant digits, powers of ten as 1.2×10⁻⁵.

const RAISED = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

/** A number as text; `digits` are significant ones. Values that JSON has no word for arrive as strings. */
export function number(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "string") return { nan: "NaN", inf: "∞", "-inf": "−∞" }[value.toLowerCase()] ?? value;
  if (typeof value === "boolean") return String(value);
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e6) return minus(String(value));
  if (size >= 1e-3 && size < 1e5) return minus(trimmed(value, digits));
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  return `${minus(mantissa.replace(/\.?0+$/, ""))}×10${raised(String(Number(exponent)))}`;
}

function trimmed(value, digits) {
  const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(value))));
  const text = value.toFixed(decimals);
  return decimals ? text.replace(/\.?0+$/, "") : text;
}

function raised(text) {
  return [...text].map((character) => RAISED[character] ?? character).join("");
}

function minus(text) {
  return text.replace("-", "−");
}

/** A factor in a product: in parentheses where it is negative. */
export function factor(value, digits = 4) {
  const text = number(value, digits);
  return text.startsWith("−") ? `(${text})` : text;
}

/** A share as a percentage. */
export function percent(share) {
  const size = Math.abs(share);
  return `${minus((100 * share).toFixed(size < 0.0995 && size > 0 ? 1 : 0))} %`;
}

/** A shape as 3 × 4; a single number has none, and an operation with several results has null. */
export function shapeText(shape) {
  if (!shape) return "several results";
  return shape.length ? shape.join(" × ") : "a number";
}

/** `1 step`, `3 steps`. */
export function count(n, word) {
  return `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
}
