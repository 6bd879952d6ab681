// Dark and light: the reader's system decides until the button does.

import { tone } from "./colour.js";

const KEY = "chainrule-theme";

/** Make the button work; `changed` is called when colours that scripts painted must be painted again. */
export function startTheme(button, changed) {
  const remembered = read();
  if (remembered) document.documentElement.dataset.theme = remembered;
  const label = () => {
    button.setAttribute("aria-pressed", String(tone() === "dark"));
    button.textContent = tone() === "dark" ? "☀" : "☾";
  };
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = tone() === "dark" ? "light" : "dark";
    write(document.documentElement.dataset.theme);
    label();
    changed();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    label();
    changed();
  });
  label();
}

// In a notebook's sandboxed frame there is no storage; the choice then lasts as long as the page.
function read() {
  try {
    const value = localStorage.getItem(KEY);
    return value === "dark" || value === "light" ? value : null;
  } catch {
    return null;
  }
}

function write(value) {
  try {
    localStorage.setItem(KEY, value);
  } catch {
    // nothing to remember it in
  }
}
