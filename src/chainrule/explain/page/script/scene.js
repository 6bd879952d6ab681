// The drawing of the graph as SVG. Only what is seen has elements; from far away all boxes are
// one path and all edges another, so that thousands of nodes cost no more than a few.

import { replace, svg } from "./dom.js";
import { layOut, pathThrough } from "./layout.js";
import { Viewport } from "./viewport.js";

const MOST_ELEMENTS = 500;
const MOST_MOVING = 40; // edges of a step that are animated
const LONGEST_MOVING = 6000;
const READABLE = 0.28; // zoom below which no label can be read

export class Scene {
  /**
   * element: the svg.
   * graph: a Graph.
   * look: id → { title, detail, kind, spoken, state } of an item, asked anew at every painting.
   * pressed: called with the id of an item that was clicked or activated by keyboard.
   */
  constructor(element, graph, look, pressed) {
    this.element = element;
    this.graph = graph;
    this.look = look;
    this.items = new Map();
    this.edgeElements = new Map();
    this.marked = { items: new Set(), edges: new Set(), pass: "forward" };
    this.far = svg("g", { class: "far", "aria-hidden": "true" });
    this.frames = svg("g", { class: "frames" });
    this.edges = svg("g", { class: "edges", "aria-hidden": "true" });
    this.nodes = svg("g", { class: "nodes" });
    this.here = svg("g", { class: "here", "aria-hidden": "true" });
    this.world = svg("g", {}, this.frames, this.far, this.edges, this.nodes, this.here);
    replace(element, arrowheads(), this.world);
    this.viewport = new Viewport(element, () => this.paint());
    element.addEventListener("click", (event) => {
      const item = event.target.closest("[data-item]");
      // Inside an open module the ground is for dragging; its title closes it.
      const ground = event.target.matches(".frame > .body");
      if (item && !ground && !this.viewport.moved) pressed(this.idOf(item));
    });
    element.addEventListener("keydown", (event) => {
      const item = event.target.closest("[data-item]");
      if (item && (event.key === "Enter" || event.key === " ")) {
        event.preventDefault();
        pressed(this.idOf(item));
      }
    });
    this.relayout();
  }

  idOf(element) {
    const { item } = element.dataset;
    return this.graph.isGroup(item) ? item : Number(item);
  }

  relayout() {
    this.drawing = layOut(this.graph);
    this.items.clear();
    this.edgeElements.clear();
    replace(this.nodes);
    replace(this.frames);
    replace(this.edges);
    this.order = [...this.drawing.boxes.values()];
    for (const edge of this.drawing.edges) edge.extent = extentOf(edge.points);
    this.farPaths = null;
    this.viewport.request();
  }

  /** Mark the items and edges of the step that is shown. `edges` are keys "from→to" of visible items. */
  mark(items, edges, pass) {
    this.marked = { items: new Set(items), edges: new Set(edges), pass };
    this.element.dataset.pass = pass;
    this.viewport.request();
  }

  whole() {
    return { x: 0, y: 0, width: this.drawing.width, height: this.drawing.height };
  }

  /** The smallest rectangle around visible items. */
  around(ids) {
    const boxes = ids.map((id) => this.drawing.boxes.get(id)).filter(Boolean);
    if (!boxes.length) return null;
    const x = Math.min(...boxes.map((box) => box.x));
    const y = Math.min(...boxes.map((box) => box.y));
    const right = Math.max(...boxes.map((box) => box.x + box.width));
    const bottom = Math.max(...boxes.map((box) => box.y + box.height));
    return { x, y, width: right - x, height: bottom - y };
  }

  paint() {
    const { x, y, zoom } = this.viewport;
    this.world.setAttribute("transform", `scale(${zoom}) translate(${-x} ${-y})`);
    const seen = grown(this.viewport.seen, 60 / zoom);
    const boxes = this.order.filter((box) => overlap(box, seen));
    const tooMany = zoom < READABLE || boxes.length > MOST_ELEMENTS;
    this.element.classList.toggle("from-afar", tooMany);
    const marked = (box) => this.marked.items.has(box.id);
    const shown = tooMany ? boxes.filter(marked) : boxes;
    const near = this.drawing.edges.filter((edge) => overlap(edge.extent, seen));
    const active = near.filter((edge) => this.marked.edges.has(edge.key)).slice(0, MOST_ELEMENTS);
    const edges = tooMany ? active : near.length > MOST_ELEMENTS ? near.filter(shortOrIn(active)) : near;
    this.paintFar(tooMany);
    this.paintHere(tooMany, zoom);
    this.paintItems(shown);
    this.paintEdges(edges);
  }

  paintFar(wanted) {
    if (!wanted) {
      replace(this.far);
    } else if (!this.far.hasChildNodes()) {
      this.farPaths ??= {
        boxes: this.order
          .filter((b) => !b.frame)
          .map((b) => `M${b.x | 0} ${b.y | 0}h${b.width}v${b.height}h${-b.width}z`)
          .join(""),
        edges: this.drawing.edges.map((e) => `M${e.points.map((p) => `${p.x | 0} ${p.y | 0}`).join("L")}`).join(""),
      };
      replace(
        this.far,
        svg("path", { class: "far-edges", d: this.farPaths.edges }),
        svg("path", { class: "far-boxes", d: this.farPaths.boxes }),
      );
    }
  }

  // From afar a ring shows where one is.
  paintHere(wanted, zoom) {
    const box = wanted ? this.around([...this.marked.items]) : null;
    replace(this.here, box && svg("circle", { cx: box.x + box.width / 2, cy: box.y + box.height / 2, r: 9 / zoom }));
  }

  paintItems(boxes) {
    keepOnly(this.items, new Set(boxes.map((box) => box.id)));
    for (const box of boxes) {
      let item = this.items.get(box.id);
      if (!item) {
        item = box.frame ? frameElement(box) : boxElement(box, this.graph.isGroup(box.id));
        this.items.set(box.id, item);
        (box.frame ? this.frames : this.nodes).append(item.element);
      }
      update(item, this.look(box.id), this.marked.items.has(box.id), box.frame || this.graph.isGroup(box.id));
    }
  }

  paintEdges(edges) {
    keepOnly(this.edgeElements, new Set(edges.map((edge) => edge.key)));
    for (const edge of edges) {
      let item = this.edgeElements.get(edge.key);
      if (!item) {
        item = { element: svg("path", { d: pathThrough(edge.points), class: "edge" }) };
        this.edgeElements.set(edge.key, item);
        this.edges.append(item.element);
      }
      const active = this.marked.edges.has(edge.key);
      if (item.active === active) continue;
      item.active = active;
      item.element.setAttribute("class", active ? "edge active" : "edge");
      if (active) this.edges.append(item.element);
    }
    // Dashes that move along very many or very long lines are more than a browser can draw in time.
    const heavy =
      this.marked.edges.size > MOST_MOVING ||
      edges.some((e) => this.marked.edges.has(e.key) && e.extent.height > LONGEST_MOVING);
    this.edges.classList.toggle("still", heavy);
  }

  /** Move the keyboard's focus to an item, if it is seen. */
  focus(id) {
    this.items.get(id)?.element.focus({ preventScroll: true });
  }
}

// Where too many edges pass by, those that only pass by are left out.
function shortOrIn(active) {
  const wanted = new Set(active);
  return (edge) => wanted.has(edge) || edge.extent.height < 1000;
}

function keepOnly(map, ids) {
  for (const [id, item] of map) {
    if (ids.has(id)) continue;
    item.element.remove();
    map.delete(id);
  }
}

function boxElement(box, isGroup) {
  const title = svg("text", { class: "title", x: 14, y: isGroup ? 26 : box.height > 45 ? 22 : 17 });
  const detail = svg("text", { class: "detail", x: 14, y: isGroup ? 46 : box.height > 45 ? 40 : 33 });
  const element = svg(
    "g",
    { class: "item", transform: `translate(${box.x} ${box.y})`, role: "button", tabindex: "-1", "data-item": box.id },
    isGroup && svg("rect", { class: "stack", x: 5, y: -5, width: box.width - 10, height: box.height, rx: 9 }),
    svg("rect", { class: "body", width: box.width, height: box.height, rx: isGroup ? 9 : 7 }),
    svg("rect", { class: "strip", x: 0, y: 9, width: 3, height: box.height - 18, rx: 1.5 }),
    title,
    detail,
    isGroup && svg("text", { class: "chevron", x: box.width - 22, y: 27 }, "+"),
  );
  return { element, title, detail, width: box.width };
}

function frameElement(box) {
  const title = svg("text", { class: "title", x: 14, y: 22 });
  const element = svg(
    "g",
    {
      class: "item frame",
      transform: `translate(${box.x} ${box.y})`,
      role: "button",
      tabindex: "-1",
      "data-item": box.id,
    },
    svg("rect", { class: "body", width: box.width, height: box.height, rx: 11 }),
    title,
    svg("text", { class: "chevron", x: box.width - 22, y: 22 }, "−"),
  );
  return { element, title, detail: null, width: box.width };
}

function update(item, look, marked, isGroup) {
  const letters = Math.floor((item.width - (isGroup ? 46 : 24)) / (isGroup ? 7.8 : 7.5));
  set(item, "titleText", cut(look.title, letters), (text) => (item.title.textContent = text));
  if (item.detail) {
    set(item, "detailText", cut(look.detail, Math.floor(letters * 1.12)), (text) => (item.detail.textContent = text));
  }
  const kind = `item ${item.detail ? "" : "frame "}${isGroup ? "group" : "node"} ${look.kind} ${look.state}${marked ? " active" : ""}`;
  set(item, "kind", kind, (text) => item.element.setAttribute("class", text));
  set(item, "spoken", look.spoken, (text) => item.element.setAttribute("aria-label", text));
  if (isGroup) set(item, "expanded", String(!item.detail), (text) => item.element.setAttribute("aria-expanded", text));
  set(item, "current", String(marked), (text) => item.element.setAttribute("aria-current", marked ? "step" : "false"));
}

function set(item, name, value, write) {
  if (item[name] === value) return;
  item[name] = value;
  write(value);
}

function cut(text, letters) {
  return text.length > letters ? `${text.slice(0, Math.max(1, letters - 1))}…` : text;
}

function arrowheads() {
  const head = (id) =>
    svg(
      "marker",
      {
        id,
        viewBox: "0 0 8 8",
        refX: 7,
        refY: 4,
        markerWidth: 7,
        markerHeight: 7,
        orient: "auto-start-reverse",
        markerUnits: "userSpaceOnUse",
      },
      svg("path", { d: "M0 0.8 7.4 4 0 7.2z" }),
    );
  return svg("defs", {}, head("arrow"), head("arrow-active"));
}

function extentOf(points) {
  const xs = points.map((p) => p.x);
  const ys = points.map((p) => p.y);
  const x = Math.min(...xs);
  const y = Math.min(...ys);
  return { x, y, width: Math.max(...xs) - x, height: Math.max(...ys) - y };
}

function overlap(a, b) {
  return a.x <= b.x + b.width && b.x <= a.x + a.width && a.y <= b.y + b.height && b.y <= a.y + a.height;
}

function grown(box, by) {
  return { x: box.x - by, y: box.y - by, width: box.width + 2 * by, height: box.height + 2 * by };
}
