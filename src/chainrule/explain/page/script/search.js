// Finding a node or module by name, operation, shape or source line.

import { h, replace } from "./dom.js";
import { shapeText } from "./numbers.js";

const MOST = 12;

export class Search {
  /** A combobox: `field` and `list` are its elements; `chosen` is called with the id that was picked. */
  constructor(field, list, chosen) {
    Object.assign(this, { field, list, chosen, at: -1, found: [], entries: [] });
    field.addEventListener("input", () => this.look());
    field.addEventListener("keydown", (event) => this.key(event));
    // A tap on a result takes the focus first; whoever is back in the field by then goes on searching.
    field.addEventListener("blur", () => setTimeout(() => document.activeElement !== field && this.close(), 120));
  }

  /** Take what is to be found from an explanation. */
  index(explanation) {
    const nodes = explanation.nodes.filter((node) => !node.hidden);
    this.entries = [...explanation.groups.map(groupEntry), ...nodes.map((node) => nodeEntry(node, explanation))];
  }

  look() {
    const words = this.field.value.toLowerCase().split(/\s+/).filter(Boolean);
    this.found = words.length ? ranked(this.entries, words).slice(0, MOST) : [];
    this.at = this.found.length ? 0 : -1;
    this.render(words.length > 0);
  }

  render(asked) {
    this.list.hidden = !asked;
    this.field.setAttribute("aria-expanded", String(asked));
    if (this.at >= 0) this.field.setAttribute("aria-activedescendant", `found-${this.at}`);
    else this.field.removeAttribute("aria-activedescendant");
    replace(
      this.list,
      asked && !this.found.length ? h("li", { class: "quiet" }, "nothing of that name") : null,
      this.found.map((item, i) =>
        h(
          "li",
          {
            role: "option",
            id: `found-${i}`,
            "aria-selected": String(i === this.at),
            onpointerdown: (event) => this.pick(event, i),
          },
          h("b", {}, item.title),
          h("span", { class: "quiet" }, item.detail),
        ),
      ),
    );
  }

  key(event) {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!this.found.length) return;
      this.at = (this.at + (event.key === "ArrowDown" ? 1 : this.found.length - 1)) % this.found.length;
      this.render(true);
    } else if (event.key === "Enter" && this.at >= 0) {
      this.pick(event, this.at);
    } else if (event.key === "Escape") {
      this.field.value = "";
      this.close();
    }
  }

  pick(event, index) {
    event.preventDefault();
    const { id } = this.found[index];
    this.close();
    this.field.blur();
    this.chosen(id);
  }

  close() {
    this.found = [];
    this.at = -1;
    this.render(false);
  }
}

function groupEntry(group) {
  return entry(group.id, group.path || group.kind, `${group.kind}${group.calls > 1 ? `, call ${group.call}` : ""}`);
}

function nodeEntry(node, explanation) {
  const text = explanation.source(node.source)?.text;
  const facts = [node.primitive ?? node.kind, shapeText(node.shape), explanation.moduleTitle(node.module), text];
  return entry(node.id, node.label, facts.filter(Boolean).join(" · "));
}

function entry(id, title, detail) {
  return { id, title, detail, text: `${title} ${detail}`.toLowerCase(), name: title.toLowerCase() };
}

function ranked(entries, words) {
  const hits = entries.filter((item) => words.every((word) => item.text.includes(word)));
  const score = (item) =>
    item.name === words[0] ? 0 : item.name.startsWith(words[0]) ? 1 : item.name.includes(words[0]) ? 2 : 3;
  return hits
    .map((item) => [score(item), item])
    .sort((a, b) => a[0] - b[0])
    .map(([, item]) => item);
}
