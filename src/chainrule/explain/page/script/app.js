// The page as a whole: which view is shown, where in the course one is, and what keys do.

import { byId, replace } from "./dom.js";
import { Explanation, single } from "./explanation.js";
import { Graph } from "./graph.js";
import { repaint } from "./heatmap.js";
import { LayerView } from "./layerview.js";
import { Live } from "./live.js";
import { looks } from "./looks.js";
import { NetworkView } from "./network.js";
import { NeuronView } from "./neuron.js";
import { number } from "./numbers.js";
import { Panel } from "./panel.js";
import { Scene } from "./scene.js";
import { Search } from "./search.js";
import { Stepper } from "./stepper.js";
import { Course } from "./stops.js";
import { StudioView } from "./studio.js";
import { Tabs } from "./tabs.js";
import { startTheme } from "./theme.js";
import { TrainingView } from "./training.js";

const ROOM = 40; // items that a reader can take in at once

export class App {
  constructor(data) {
    this.data = data;
    this.live = byId("live");
    this.views = {};
    this.tabs = new Tabs(byId("tabs"), (name) => this.enter(name));
    startTheme(byId("theme"), () => {
      repaint();
      this.scene.viewport.request();
      for (const view of Object.values(this.views)) view.repaint?.();
    });
    this.search = new Search(byId("search"), byId("found"), (id) => this.reach(id));
    this.stepper = new Stepper(byId("stepper"), (index) => this.go(index));
    this.show(new Explanation(data.explanation));
    if (data.live) this.connect(data.live);
    this.buildViews();
    this.listen();
    this.tabs.select(data.live ? "studio" : "steps");
    this.go(-1, { speak: false });
    document.documentElement.dataset.ready = "true";
    performance.mark("ready");
  }

  /** Show an explanation: the one of the page, or the next one of a live session. */
  show(explanation) {
    this.explanation = explanation;
    this.graph = new Graph(explanation.nodes, explanation.groups);
    this.graph.openWithin(ROOM);
    this.course = new Course(explanation, this.graph);
    this.panel = new Panel(byId("panel"), explanation, this.graph, (node, pass) => this.visit(node, pass));
    // A graph of its own for each scene, so that no listener of an earlier one is left.
    const element = byId("graph").cloneNode(false);
    byId("graph").replaceWith(element);
    this.scene = new Scene(element, this.graph, looks(explanation, this.graph, this.course), (id) => this.press(id));
    this.search.index(explanation);
    replace(byId("heading"), this.data.studio?.title ?? explanation.title);
    replace(byId("note"), explanation.note);
    byId("note").hidden = !explanation.note;
    this.nameLoss();
    this.nameOpenAll();
    this.fit();
  }

  buildViews() {
    const { explanation, data, views } = this;
    const go = (node, pass) => {
      this.tabs.select("steps");
      this.visit(node, pass);
    };
    const say = (text) => this.say(text);
    const made = { studio: views.studio };
    if (data.neurons?.length) made.neuron = new NeuronView(byId("view-neuron"), data.neurons, say);
    if (explanation.layers.length) made.layers = new LayerView(byId("view-layers"), explanation, go);
    made.network = new NetworkView(byId("view-network"), explanation, go);
    if (data.run) made.training = new TrainingView(byId("view-training"), data.run, say);
    this.views = Object.fromEntries(Object.entries(made).filter(([, view]) => view));
    this.tabs.offer(["steps", ...Object.keys(this.views)]);
  }

  /** The studio's server: each state that it sends is shown in all views. */
  connect(address) {
    const live = new Live(
      address,
      (data) => this.update(data),
      () => this.views.studio.lost(),
    );
    this.views.studio = new StudioView(byId("view-studio"), (command) => live.send(command));
    this.views.studio.update(this.data.studio, this.data.neurons);
  }

  /** Show another state of a live session; the step and the view stay where they are. */
  update(data) {
    if (!data.explanation) {
      this.views.studio.complain(data.trouble);
      return;
    }
    this.data = data;
    const next = new Explanation(data.explanation);
    this.views.studio.update(data.studio, data.neurons);
    if (this.explanation.isLike(next)) {
      this.explanation.adopt(next);
      this.scene.look = looks(this.explanation, this.graph, this.course);
      this.panel.show(this.course.stop, { stay: true });
      this.scene.viewport.request();
      this.views.neuron?.update(data.neurons);
      this.views.layers?.update();
      this.views.network.update();
      this.nameLoss();
    } else {
      this.show(next);
      this.buildViews();
      this.go(-1, { speak: false });
      if (!this.views[this.view] && this.view !== "steps") this.tabs.select("studio");
    }
  }

  enter(name) {
    this.view = name;
    document.body.dataset.view = name;
    // While the graph was hidden it had no size to be fitted to.
    if (name === "steps" && this.scene && !this.fitted) this.go(this.course.index, { speak: false, fit: true });
    this.scene?.viewport.request();
  }

  listen() {
    document.addEventListener("keydown", (event) => this.key(event));
    byId("zoom-in").addEventListener("click", () => this.scene.viewport.zoomBy(1.3));
    byId("zoom-out").addEventListener("click", () => this.scene.viewport.zoomBy(1 / 1.3));
    byId("zoom-fit").addEventListener("click", () => this.fit(0));
    byId("open-all").addEventListener("click", () => this.openAll());
    byId("help").addEventListener("click", () => byId("keys").showModal());
  }

  key(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target;
    if (target.closest("input:not([type=range]), select, textarea, dialog[open], [role=tablist]")) return;
    if (target.matches("input[type=range]") && /^(Arrow|Home|End|Page)/.test(event.key)) return;
    const action = {
      ArrowRight: () => this.step(1),
      ArrowLeft: () => this.step(-1),
      ArrowDown: () => this.step(1),
      ArrowUp: () => this.step(-1),
      Home: () => this.go(-1),
      End: () => this.go(this.course.length - 1),
      f: () => this.go(0),
      b: () => this.go(this.course.forwardCount),
      "+": () => this.scene.viewport.zoomBy(1.3),
      "-": () => this.scene.viewport.zoomBy(1 / 1.3),
      0: () => this.fit(0),
      o: () => this.toggleCurrent(),
      "/": () => byId("search").focus(),
      "?": () => byId("keys").showModal(),
    }[event.key];
    if (!action) return;
    const anywhere = event.key === "/" || event.key === "?";
    const sideways = event.key === "ArrowRight" || event.key === "ArrowLeft";
    const scrolls = event.key === "ArrowDown" || event.key === "ArrowUp";
    if (this.view !== "steps" && !anywhere && !(sideways && this.views[this.view]?.move)) return;
    if (scrolls && target.closest(".panel")) return;
    event.preventDefault();
    action();
  }

  /** One step on or back, in the view that is shown. */
  step(by) {
    const view = this.views[this.view];
    if (view?.move) view.move(by);
    else this.go(this.course.index + by);
  }

  go(index, { speak = true, fit = false } = {}) {
    if (fit) this.fit();
    this.course.go(index);
    const { stop } = this.course;
    const sentence = this.panel.show(stop);
    if (stop) {
      this.scene.mark([stop.item], stop.edges, stop.pass);
      const ends = [...stop.edges]
        .flatMap((key) => key.split("→"))
        .map((id) => (this.graph.isGroup(id) ? id : Number(id)));
      const box = this.scene.around([stop.item, ...ends]);
      const own = this.scene.around([stop.item]);
      const { width, height } = this.scene.viewport.seen;
      if (own) this.scene.viewport.show(box.width < 0.8 * width && box.height < 0.8 * height ? box : own);
    } else {
      this.scene.mark([], [], "forward");
    }
    this.stepper.update(this.course);
    if (speak) this.say(stop ? `${stop.pass} ${this.stepper.position}. ${sentence}` : sentence);
  }

  /** Go to the step that is about a node: its derivative if it has one and `pass` does not say otherwise. */
  visit(node, pass = null) {
    const has = this.explanation.stepOf.has(node);
    const wanted =
      pass ??
      (this.course.stop?.pass === "forward" && this.explanation.nodes[node].kind === "operation"
        ? "forward"
        : has
          ? "backward"
          : "forward");
    if (this.graph.reveal(node)) this.changed();
    const index = this.course.find(wanted, node);
    if (index >= 0) this.go(index);
    else this.point(node);
  }

  /** A search's result: make it visible and point to it. */
  reach(id) {
    this.tabs.select("steps");
    if (this.graph.isGroup(id)) {
      if (this.graph.reveal(id)) this.changed();
      this.point(id);
    } else {
      this.visit(id);
    }
    requestAnimationFrame(() => requestAnimationFrame(() => this.scene.focus(id)));
  }

  point(id) {
    const box = this.scene.around([id]);
    if (!box) return;
    this.scene.mark([id], [], "forward");
    this.scene.viewport.show(box);
    this.say(this.scene.look(id).spoken);
  }

  press(id) {
    if (this.graph.isGroup(id)) this.toggle(id);
    else this.visit(id);
  }

  toggle(id) {
    if (this.graph.isOpen(id)) this.graph.open.delete(id);
    else this.graph.open.add(id);
    this.changed();
    this.go(this.course.index, { speak: false });
    this.point(id);
    requestAnimationFrame(() => requestAnimationFrame(() => this.scene.focus(id)));
  }

  /** Open the closed module of the current step, or close the innermost open one around it. */
  toggleCurrent() {
    const item = this.course.stop?.item;
    if (item === undefined) return;
    const group = this.graph.isGroup(item) ? item : this.graph.ancestors(item)[0];
    if (group) this.toggle(group);
  }

  openAll() {
    const all = this.graph.groups.length === this.graph.open.size;
    this.graph.open.clear();
    if (all) this.graph.openWithin(0);
    else for (const group of this.graph.groups) this.graph.open.add(group.id);
    this.changed();
    this.go(this.course.index, { speak: false });
    this.fit();
  }

  nameLoss() {
    const loss = single(this.explanation.loss.value);
    replace(byId("loss"), loss === null ? "" : `L = ${number(loss)}`);
  }

  nameOpenAll() {
    const { graph } = this;
    byId("open-all").hidden = graph.groups.length === 0;
    replace(byId("open-all"), graph.open.size === graph.groups.length ? "Close all" : "Open all");
  }

  // After modules were opened or closed.
  changed() {
    this.course.refresh();
    this.scene.relayout();
    this.nameOpenAll();
  }

  /** Show all of the graph, or as much of it as can be read, from its top. */
  fit(smallest = 0.85) {
    const { viewport } = this.scene;
    this.fitted = viewport.size.width > 1;
    const whole = this.scene.whole();
    viewport.fit(whole, smallest);
    const { height, width } = viewport.seen;
    if (whole.height > height) viewport.y = -24 / viewport.zoom;
    if (whole.width > width) viewport.x = whole.width / 2 - width / 2;
  }

  say(text) {
    replace(this.live, text);
  }
}
