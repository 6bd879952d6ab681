// Where everything stands: every open module is laid out by itself and then stands as one box in
// the module around it, so modules never overlap. Positions are in the graph's own units.

import { placeInLayers } from "./layers.js";

export const NODE = { width: 176, height: 52 };
const LEAF = { width: 150, height: 40, leaf: true };
const CLOSED = { width: 196, height: 62 };
const FRAME = { side: 18, top: 30, bottom: 8 };

/**
 * The drawing of what is visible.
 *
 * Returns { width, height, boxes: Map id → { x, y, width, height, depth, frame }, edges: [{ key, from, to, points, pairs }] }
 * where `pairs` are the node ids of the connections that one drawn edge stands for.
 */
export function layOut(graph) {
  const drawn = [...drawnEdges(graph).values()];
  const links = new Map();
  for (const edge of drawn) edge.route = routeOf(graph, edge, links);
  const placed = new Map();
  const whole = place(graph, graph.root, links, placed);
  const boxes = new Map();
  const origins = new Map();
  settle(graph, graph.root, 0, 0, 0, placed, boxes, origins);
  for (const edge of drawn)
    edge.between = edge.route.flatMap((part) => pointsOf(part, placed, origins.get(part.group)));
  spreadPorts(drawn, boxes);
  return { width: whole.width, height: whole.height, boxes, edges: drawn };
}

// An edge leaves open modules through ports at their bottom and enters others through ports at
// their top. Each part of its way lies in one module and is a link of that module's own drawing.
function routeOf(graph, edge, links) {
  const [level, a, b] = graph.levelOf(edge.from, edge.to);
  const route = [];
  const link = (group, from, to) => {
    if (!links.has(group)) links.set(group, new Map());
    links.get(group).set(`${from}→${to}`, [from, to]);
    route.push({ group, from, to });
  };
  for (let child = edge.from; child !== a; child = graph.parent(child))
    link(graph.parent(child), child, `out:${child}`);
  link(level, a, b);
  const inner = [];
  for (let child = edge.to; child !== b; child = graph.parent(child)) inner.unshift(child);
  for (const child of inner) link(graph.parent(child), `in:${edge.from}→${child}`, child);
  return route;
}

function pointsOf({ group, from, to }, placed, origin) {
  const { lanes, ports, past } = placed.get(group);
  const below = past.get(from);
  const above = past.get(to);
  const points = [
    ports.get(from),
    below && !ports.has(from) ? { x: below.x, y: below.bottom } : null,
    ...(lanes.get(`${from}→${to}`) ?? []),
    above && !ports.has(to) ? { x: above.x, y: above.top } : null,
    ports.get(to),
  ].filter(Boolean);
  return points.map((p) => ({ x: p.x + origin.x, y: p.y + origin.y }));
}

function drawnEdges(graph) {
  const drawn = new Map();
  for (const node of graph.nodes) {
    const to = graph.visibleItem(node.id);
    for (const input of node.inputs) {
      if (graph.node(input).hidden) continue;
      const from = graph.visibleItem(input);
      if (from === to) continue;
      const key = `${from}→${to}`;
      if (!drawn.has(key)) drawn.set(key, { key, from, to, pairs: [] });
      drawn.get(key).pairs.push([input, node.id]);
    }
  }
  return drawn;
}

function place(graph, group, links, placed) {
  const items = graph.children(group).map((id) => {
    if (!graph.isGroup(id)) return { id, ...(graph.node(id).inputs.length ? NODE : LEAF) };
    if (!graph.isOpen(id)) return { id, ...CLOSED };
    const inside = place(graph, id, links, placed);
    return {
      id,
      width: Math.max(CLOSED.width, inside.width + 2 * FRAME.side),
      height: inside.height + FRAME.top + FRAME.bottom,
    };
  });
  const own = [...(links.get(group)?.values() ?? [])];
  const port = (id, pin) => ({ id, width: 10, height: 0, pin });
  const entries = new Set(own.map(([from]) => from).filter((id) => isPort(id, "in:")));
  const exits = new Set(own.map(([, to]) => to).filter((id) => isPort(id, "out:")));
  const everything = [
    ...[...entries].map((id) => port(id, "top")),
    ...items,
    ...[...exits].map((id) => port(id, "bottom")),
  ];
  const result = placeInLayers(everything, own);
  const ports = new Map();
  for (const id of [...entries, ...exits]) {
    const { x, y } = result.at.get(id);
    ports.set(id, { x: x + 5, y });
  }
  placed.set(group, { ...result, ports, sizes: new Map(items.map((item) => [item.id, item])) });
  return result;
}

function isPort(id, kind) {
  return typeof id === "string" && id.startsWith(kind);
}

function settle(graph, group, x, y, depth, placed, boxes, origins) {
  const { at, sizes } = placed.get(group);
  origins.set(group, { x, y });
  for (const [id, { width, height }] of sizes) {
    const position = at.get(id);
    const box = { id, x: x + position.x, y: y + position.y, width, height, depth, frame: false };
    boxes.set(id, box);
    if (graph.isGroup(id) && graph.isOpen(id)) {
      box.frame = true;
      const inner = (width - placed.get(id).width) / 2;
      settle(graph, id, box.x + inner, box.y + FRAME.top, depth + 1, placed, boxes, origins);
    }
  }
}

// Several edges at one side of a box leave it side by side, in the order of where they lead.
function spreadPorts(edges, boxes) {
  const leaving = new Map();
  const arriving = new Map();
  const add = (map, id, edge) => (map.has(id) ? map.get(id).push(edge) : map.set(id, [edge]));
  for (const edge of edges) {
    add(leaving, edge.from, edge);
    add(arriving, edge.to, edge);
  }
  const middle = (id) => boxes.get(id).x + boxes.get(id).width / 2;
  for (const [id, list] of leaving) spread(list, boxes.get(id), (e) => e.between[0]?.x ?? middle(e.to), "start");
  for (const [id, list] of arriving) spread(list, boxes.get(id), (e) => e.between.at(-1)?.x ?? middle(e.from), "end");
  for (const edge of edges) {
    const from = boxes.get(edge.from);
    const to = boxes.get(edge.to);
    edge.points = [{ x: edge.start, y: from.y + from.height }, ...edge.between, { x: edge.end, y: to.y }];
  }
}

function spread(list, box, towards, side) {
  list.sort((p, q) => towards(p) - towards(q));
  const step = Math.min(22, (box.width - 40) / list.length);
  list.forEach((edge, i) => (edge[side] = box.x + box.width / 2 + (i - (list.length - 1) / 2) * step));
}

/** An SVG path through points that are above one another. */
export function pathThrough(points) {
  let path = `M${points[0].x.toFixed(1)} ${points[0].y.toFixed(1)}`;
  for (let i = 1; i < points.length; i++) {
    const [a, b] = [points[i - 1], points[i]];
    const reach = Math.max(12, Math.abs(b.y - a.y) / 2);
    path += `C${a.x.toFixed(1)} ${(a.y + reach).toFixed(1)} ${b.x.toFixed(1)} ${(b.y - reach).toFixed(1)} ${b.x.toFixed(1)} ${b.y.toFixed(1)}`;
  }
  return path;
}
