// A layered drawing of one level of the graph (Sugiyama, Tagawa and Toda 1981): every edge runs
// down, long edges get a lane of their own past the layers between, layers are sorted to cross
// little, and items are placed as near to the middle of their neighbours as their widths allow.

const GAP = { across: 26, down: 34, lane: 10, port: 14 };
const TOWARDS_MIDDLE = 0.9;
const TALL = 60; // by how much a layer is taller than an item beside which an edge has to pass
const LONGEST_LANE = 40; // layers; longer edges are drawn as one curve

/**
 * Place items.
 *
 * items: [{ id, width, height, leaf, pin }] in an order that is topological; `pin` is "top" or "bottom" for the
 *   ports through which edges enter and leave.
 * edges: [[from, to]] between ids.
 * Returns { width, height, at: Map id → { x, y } (top left), lanes: Map "from→to" → [{ x, y }],
 *   past: Map id → { x, top, bottom } of items much lower than their layer: edges run straight through the rest of it }.
 */
export function placeInLayers(items, edges) {
  const boxes = items.map((item, index) => ({ ...item, index, above: [], below: [], layer: 0, lane: false }));
  const byId = new Map(boxes.map((box) => [box.id, box]));
  const links = [];
  for (const [from, to] of edges) {
    const a = byId.get(from);
    const b = byId.get(to);
    if (a.index < b.index) links.push([a, b]);
  }
  assignLayers(boxes, links);
  const lanes = new Map();
  const all = [...boxes];
  for (const [a, b] of links) {
    const chain = lane(a, b);
    all.push(...chain);
    if (chain.length) lanes.set(`${a.id}→${b.id}`, chain);
    let upper = a;
    for (const lower of [...chain, b]) {
      upper.below.push(lower);
      lower.above.push(upper);
      upper = lower;
    }
  }
  placeLeavesAside(boxes);
  const layers = [];
  for (const box of all) (layers[box.layer] ??= []).push(box);
  for (let i = 0; i < layers.length; i++) layers[i] ??= [];
  sortLayers(layers);
  placeAcross(layers);
  const height = placeDown(layers);
  return finished(boxes, lanes, height);
}

function assignLayers(boxes, links) {
  const below = new Map(boxes.map((box) => [box, []]));
  const fed = new Set();
  for (const [a, b] of links) {
    below.get(a).push(b);
    fed.add(b);
  }
  for (const a of boxes) for (const b of below.get(a)) b.layer = Math.max(b.layer, a.layer + 1);
  for (const box of [...boxes].reverse()) {
    const consumers = below.get(box);
    // Parameters and data stand right above what reads them.
    if (!fed.has(box) && !box.pin && consumers.length) box.layer = Math.min(...consumers.map((b) => b.layer)) - 1;
  }
  const top = Math.min(...boxes.map((box) => box.layer));
  for (const box of boxes) box.layer = box.pin === "top" ? 0 : box.layer - top;
  const last = Math.max(...boxes.map((box) => box.layer));
  for (const box of boxes) if (box.pin === "bottom") box.layer = last;
}

function lane(a, b) {
  const chain = [];
  if (b.layer - a.layer > LONGEST_LANE) return chain;
  for (let layer = a.layer + 1; layer < b.layer; layer++) {
    chain.push({ id: null, width: GAP.lane, height: 0, layer, above: [], below: [], lane: true });
  }
  return chain;
}

// The leaves of an operation stand to its left and right in turn, what was computed in the middle.
function placeLeavesAside(boxes) {
  for (const box of boxes) {
    box.above.filter((other) => other.leaf).forEach((leaf, i) => (leaf.aside = i % 2 ? 0.25 : -0.25));
  }
}

function sortLayers(layers) {
  const size = layers.reduce((sum, layer) => sum + layer.length, 0);
  const number = (layer) => layer.forEach((box, i) => (box.rank = i));
  layers.forEach(number);
  const by = (side) => (layer) => {
    for (const box of layer) {
      const near = box[side];
      box.wish = near.length ? near.reduce((sum, other) => sum + other.rank, 0) / near.length : box.rank;
      if (side === "below") box.wish += box.aside ?? 0;
    }
    layer.sort((p, q) => p.wish - q.wish);
    number(layer);
  };
  for (let sweep = 0; sweep < (size > 2000 ? 2 : 6); sweep++) {
    layers.forEach(by("above"));
    [...layers].reverse().forEach(by("below"));
  }
}

function placeAcross(layers) {
  for (const layer of layers) {
    let x = 0;
    for (const box of layer) {
      box.centre = x + box.width / 2;
      x += box.width + GAP.across;
    }
    for (const box of layer) box.centre -= x / 2;
  }
  for (let sweep = 0; sweep < 6; sweep++) {
    for (const layer of layers) settle(layer, "above");
    for (const layer of [...layers].reverse()) settle(layer, "below");
  }
}

// Least squares under "keep the order and the distances": isotonic regression by pooling neighbours.
function settle(layer, side) {
  const pools = [];
  let offset = 0;
  layer.forEach((box, i) => {
    if (i) offset += (layer[i - 1].width + box.width) / 2 + GAP.across;
    box.offset = offset;
    const near = box[side];
    // A little pull to the middle keeps a long chain with short cuts from wandering off to one side.
    const wish = near.length ? TOWARDS_MIDDLE * middleOf(near) : box.centre;
    const weight = box.lane ? 4 : box.leaf || !near.length ? 0.02 : 1;
    pools.push({ sum: weight * (wish - offset), weight, boxes: [box] });
    while (pools.length > 1 && mean(pools.at(-2)) > mean(pools.at(-1))) {
      const last = pools.pop();
      const before = pools.at(-1);
      before.sum += last.sum;
      before.weight += last.weight;
      before.boxes.push(...last.boxes);
    }
  });
  for (const pool of pools) for (const box of pool.boxes) box.centre = mean(pool) + box.offset;
}

// Leaves pull less than what was computed, so that the main line of a computation is straight.
function middleOf(boxes) {
  let sum = 0;
  let weights = 0;
  for (const box of boxes) {
    const weight = box.leaf ? 0.05 : 1;
    sum += weight * box.centre;
    weights += weight;
  }
  return sum / weights;
}

function mean(pool) {
  return pool.sum / pool.weight;
}

function placeDown(layers) {
  const tallest = layers.map((layer) => Math.max(0, ...layer.map((box) => box.height)));
  let y = 0;
  let height = 0;
  layers.forEach((layer, i) => {
    for (const box of layer) {
      // What nothing leads to stands as near to its reader as it can.
      const led = box.above.length || box.pin;
      box.middle = led ? y + tallest[i] / 2 : y + tallest[i] - box.height / 2;
      if (led && tallest[i] - box.height > TALL) box.past = { top: y, bottom: y + tallest[i] };
    }
    height = y + tallest[i];
    // Ports need little room, but the way to them some.
    y = height + (tallest[i] && tallest[i + 1] ? GAP.down : GAP.port);
  });
  return height;
}

function finished(boxes, lanes, height) {
  let left = Infinity;
  let right = -Infinity;
  const lanePoints = [...lanes.values()].flat();
  for (const box of [...boxes, ...lanePoints]) {
    left = Math.min(left, box.centre - box.width / 2);
    right = Math.max(right, box.centre + box.width / 2);
  }
  const at = new Map();
  for (const box of boxes) at.set(box.id, { x: box.centre - box.width / 2 - left, y: box.middle - box.height / 2 });
  const routes = new Map();
  for (const [key, chain] of lanes)
    routes.set(
      key,
      chain.flatMap((box) => {
        const x = box.centre - left;
        return box.past ? [box.past.top, box.past.bottom].map((y) => ({ x, y })) : [{ x, y: box.middle }];
      }),
    );
  const past = new Map(
    boxes.filter((box) => box.past).map((box) => [box.id, { x: box.centre - left, ...box.past }]),
  );
  return { width: boxes.length ? right - left : 0, height, at, lanes: routes, past };
}
