// The views as tabs: click, or arrow keys within the list.

import { byId } from "./dom.js";

export class Tabs {
  constructor(list, entered) {
    this.tabs = [...list.querySelectorAll("[role=tab]")];
    this.entered = entered;
    for (const tab of this.tabs) {
      tab.addEventListener("click", (event) => {
        this.select(tab.dataset.view);
        if (event.detail > 0) tab.blur(); // by pointer: the arrow keys are for stepping then
      });
    }
    list.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      const offered = this.tabs.filter((tab) => !tab.hidden);
      const now = offered.findIndex((tab) => tab.getAttribute("aria-selected") === "true");
      const next = offered[(now + by + offered.length) % offered.length];
      this.select(next.dataset.view);
      next.focus();
    });
  }

  /** Offer only these views. */
  offer(names) {
    for (const tab of this.tabs) tab.hidden = !names.includes(tab.dataset.view);
  }

  select(name) {
    for (const tab of this.tabs) {
      const chosen = tab.dataset.view === name;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).hidden = !chosen;
    }
    this.entered(name);
  }
}
