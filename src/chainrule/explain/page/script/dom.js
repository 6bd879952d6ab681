// Making elements. Text always goes in as text nodes, so nothing a user named can become markup.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element: `h("p", { class: "note" }, "text", child)`. Properties that start with "on" are listeners. */
export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** An SVG element, in the same way. */
export function svg(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "variables") {
      for (const [key, number] of Object.entries(value)) element.style.setProperty(`--${key}`, number);
    } else element.setAttribute(name, value === true ? "" : value);
  }
  append(element, children);
  return element;
}

/** Append children: elements, text, lists of them; nothing for null and false. */
export function append(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(element, child);
    else element.append(child);
  }
}

/** Put these children in place of what is there. */
export function replace(element, ...children) {
  element.textContent = "";
  append(element, children);
}

/** The element of the template with this id. */
export function byId(id) {
  return document.getElementById(id);
}
