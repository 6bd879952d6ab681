// Formulas arrive as MathML text. Only known elements and attributes are taken over, so a
// formula can show anything and run nothing.

const MATHML = "http://www.w3.org/1998/Math/MathML";
const ELEMENTS = new Set(
  (
    "math mrow mi mn mo ms mtext mspace mfrac msqrt mroot msub msup msubsup munder mover munderover mtable mtr mtd " +
    "mpadded mphantom mstyle menclose"
  ).split(" "),
);
const ATTRIBUTES = new Set(
  (
    "display mathvariant stretchy fence form separator accent accentunder lspace rspace width height depth linethickness " +
    "columnalign rowspacing columnspacing displaystyle largeop movablelimits minsize maxsize symmetric notation"
  ).split(" "),
);

/** The formula as an element; text that is no MathML is shown as it is. `spoken` is what a screen reader says. */
export function formula(text, { block = true, spoken = "" } = {}) {
  const parsed = new DOMParser().parseFromString(qualified(text), "application/xml");
  const broken = parsed.getElementsByTagName("parsererror").length > 0;
  let element;
  if (broken || parsed.documentElement.localName !== "math") {
    element = document.createElement("code");
    element.textContent = text;
  } else {
    element = copy(parsed.documentElement);
    element.setAttribute("display", block ? "block" : "inline");
  }
  if (spoken) element.setAttribute("aria-label", spoken);
  if (element.querySelector('mo[stretchy="true"]')) requestAnimationFrame(() => stretch(element));
  return element;
}

// Without a mathematical font a browser leaves parentheses as low as letters: make them as high as what they hold.
function stretch(element) {
  for (const mark of element.querySelectorAll('mo[stretchy="true"]')) {
    const wanted = mark.parentElement.getBoundingClientRect().height;
    const own = mark.getBoundingClientRect().height;
    if (own > 0 && wanted > 1.3 * own) mark.style.transform = `scale(1.1, ${(0.95 * wanted) / own})`;
  }
}

function qualified(text) {
  return /^\s*<math[^>]*\sxmlns=/.test(text) ? text : text.replace("<math", `<math xmlns="${MATHML}"`);
}

function copy(source) {
  const element = document.createElementNS(MATHML, source.localName);
  for (const { name, value } of source.attributes) if (ATTRIBUTES.has(name)) element.setAttribute(name, value);
  for (const child of source.childNodes) {
    if (child.nodeType === Node.TEXT_NODE) element.append(child.data);
    else if (child.nodeType === Node.ELEMENT_NODE && ELEMENTS.has(child.localName)) element.append(copy(child));
  }
  return element;
}
