// The course of the whole computation as a list of stops: forward through the operations, then
// backward through the derivatives. Consecutive steps inside one closed module are one stop.

/**
 * The stops for what is open now.
 *
 * A stop is { pass, item, nodes, edges }: the visible item it is about, the nodes computed (or
 * whose derivatives are found) there, and the drawn edges it uses.
 */
export function stopsOf(explanation, graph) {
  const forward = explanation.nodes
    .filter((node) => node.kind === "operation")
    .map((node) => ({ pass: "forward", node: node.id, edges: node.inputs.map((input) => [input, node.id]) }));
  const backward = explanation.backward.map((step) => ({
    pass: "backward",
    node: step.node,
    edges: step.edges.map((id) => [explanation.edges[id].operand, explanation.edges[id].consumer]),
  }));
  return [...merged(forward, graph), ...merged(backward, graph)];
}

function merged(steps, graph) {
  const stops = [];
  for (const { pass, node, edges } of steps) {
    const item = graph.visibleItem(node);
    const drawn = edges
      .filter(([from]) => !graph.node(from).hidden)
      .map(([from, to]) => [graph.visibleItem(from), graph.visibleItem(to)])
      .filter(([from, to]) => from !== to)
      .map(([from, to]) => `${from}→${to}`);
    const last = stops.at(-1);
    if (last && last.item === item && graph.isGroup(item)) {
      last.nodes.push(node);
      for (const key of drawn) last.edges.add(key);
    } else {
      stops.push({ pass, item, nodes: [node], edges: new Set(drawn) });
    }
  }
  return stops;
}

/** Where one is on the way, as a moment that survives opening and closing modules. */
export class Course {
  constructor(explanation, graph) {
    this.explanation = explanation;
    this.graph = graph;
    this.index = -1;
    this.refresh();
  }

  /** Make the list anew after modules were opened or closed; stay at the same computation. */
  refresh() {
    const before = this.stops?.[this.index];
    this.stops = stopsOf(this.explanation, this.graph);
    this.forwardCount = this.stops.filter((stop) => stop.pass === "forward").length;
    if (before) this.index = this.find(before.pass, before.nodes[0]);
    this.measure();
  }

  find(pass, node) {
    return this.stops.findIndex((stop) => stop.pass === pass && stop.nodes.includes(node));
  }

  get stop() {
    return this.stops[this.index] ?? null;
  }

  get length() {
    return this.stops.length;
  }

  go(index) {
    this.index = Math.max(-1, Math.min(this.stops.length - 1, index));
    this.measure();
  }

  // What is known by now: the values computed so far, and the derivatives found so far.
  measure() {
    const stop = this.stop;
    this.computed = -1;
    this.derived = -1;
    if (!stop) return;
    if (stop.pass === "forward") {
      this.computed = stop.nodes.at(-1);
    } else {
      this.computed = Infinity;
      this.derived = this.explanation.rankOf.get(stop.nodes.at(-1));
    }
  }

  /** Whether the value of a node is there at this moment. */
  hasValue(node) {
    return node.kind !== "operation" || this.index < 0 || node.id <= this.computed;
  }

  /** Whether the derivative by a node is there at this moment. */
  hasGradient(node) {
    const rank = this.explanation.rankOf.get(node.id);
    return rank !== undefined && (this.index < 0 || rank <= this.derived);
  }
}
