// The explanation's JSON document, made convenient: formulas filled in, statistics decoded, nodes
// put into the calls of their modules. What the fields mean is written in explain/document.py.

const GAP = /[\uE000-\uF8FF]/g;
const WORDS = { NaN: NaN, Infinity: Infinity, "-Infinity": -Infinity };

/** A number of the document: JSON has no word for NaN and infinity, so they come as text. */
export function real(value) {
  return typeof value === "string" ? (WORDS[value] ?? NaN) : value;
}

export class Explanation {
  constructor(document) {
    this.document = document;
    this.title = document.title;
    this.sources = document.sources;
    this.modules = document.modules;
    this.nodes = document.nodes.map((node, id) => ({ ...node, id, label: signed(node.label), group: null }));
    this.edges = document.edges.map((edge, id) => ({ ...edge, id }));
    this.steps = document.steps;
    this.layers = document.layers;
    this.answers = document.answers;
    this.check = document.check;
    this.loss = this.nodes[document.loss];
    this.wrt = document.wrt.map((id) => this.nodes[id]);
    this.stepOf = new Map(this.steps.map((step, index) => [step.node, index]));
    this.backward = inReadingOrder(this.steps, this.edges, this.nodes);
    this.rankOf = new Map(this.backward.map((step, rank) => [step.node, rank]));
    this.calls = callsOf(this.nodes, this.modules);
    this.groupOf = new Map(this.calls.map((group) => [group.id, group]));
    this.groups = worthDrawing(this.calls, this.nodes);
    const readers = readersOf(this.nodes);
    const drawn = new Set(this.groups.map((group) => group.id));
    for (const node of this.nodes) {
      node.call = node.group;
      node.hidden = node.kind === "constant" && readers.get(node.id) !== 1;
      if (node.group !== null && !drawn.has(node.group)) node.group = this.groupOf.get(node.group).parent;
    }
  }

  /** Whether another explanation is of the same graph, with other numbers. */
  isLike(other) {
    const same = (node, i) => {
      const twin = other.nodes[i];
      return (
        node.primitive === twin.primitive && node.label === twin.label && String(node.inputs) === String(twin.inputs)
      );
    };
    return (
      this.nodes.length === other.nodes.length && this.steps.length === other.steps.length && this.nodes.every(same)
    );
  }

  /** Take over the numbers of an explanation of the same graph. */
  adopt(other) {
    const { document, edges, steps, backward, layers, answers, check } = other;
    Object.assign(this, { document, edges, steps, backward, layers, answers, check });
    this.nodes.forEach((node, i) =>
      Object.assign(node, {
        value: other.nodes[i].value,
        gradient: other.nodes[i].gradient,
        forward: other.nodes[i].forward,
      }),
    );
  }

  /** A formula as plain text. */
  text(formula) {
    return formula ? this.filled(formula, "text") : "";
  }

  /** A formula as a MathML element's text. */
  mathml(formula) {
    return `<math><mrow>${this.filled(formula, "mathml")}</mrow></math>`;
  }

  filled([template, ...names], form) {
    const { names: known, templates } = this.document;
    return templates[template][form].replace(GAP, (gap) => known[names[gap.charCodeAt(0) - 0xe000]]?.[form] ?? "");
  }

  /** "encoder.0 · Linear" of a module, or nothing. */
  moduleTitle(index) {
    if (index === null || index === undefined) return "";
    const { path, kind } = this.modules[index];
    return path ? `${path} · ${kind}` : kind;
  }

  source(index) {
    return index === null || index === undefined ? null : this.sources[index];
  }
}

// The backward pass finds the derivatives of parameters and inputs last, because they were made first.
// A reader wants each right after the derivative that it is computed from: ∂L/∂z, then ∂L/∂W and ∂L/∂b.
function inReadingOrder(steps, edges, nodes) {
  const followers = new Map();
  const ranks = new Map(steps.map((step, rank) => [step.node, rank]));
  const main = [];
  for (const step of steps) {
    const last = Math.max(-1, ...step.edges.map((id) => ranks.get(edges[id].consumer) ?? -1));
    if (nodes[step.node].kind === "operation" || last < 0) main.push(step);
    else if (followers.has(last)) followers.get(last).push(step);
    else followers.set(last, [step]);
  }
  return main.flatMap((step) => [step, ...(followers.get(ranks.get(step.node)) ?? [])]);
}

// Numbers that stand for themselves are written with a true minus sign.
function signed(label) {
  return /^-[\d.]/.test(label) ? label.replace("-", "−") : label;
}

// A module's call is a stretch of time, so a call is a run of consecutive operations of that
// module; a module that is called several times gets a group for each call.
function callsOf(nodes, modules) {
  const groups = [];
  const calls = new Map();
  let open = [];
  for (const node of nodes) {
    if (node.kind !== "operation") continue;
    const chain = lineage(node.module, modules);
    let same = 0;
    while (same < open.length && same < chain.length && open[same].module === chain[same]) same++;
    open = open.slice(0, same);
    for (const module of chain.slice(same)) {
      const call = (calls.get(module) ?? 0) + 1;
      calls.set(module, call);
      const group = {
        id: `m${groups.length}`,
        module,
        call,
        parent: open.at(-1)?.id ?? null,
        ...naming(modules[module]),
      };
      groups.push(group);
      open.push(group);
    }
    node.group = open.at(-1)?.id ?? null;
  }
  for (const group of groups) group.calls = calls.get(group.module);
  placeLeaves(nodes, groups);
  return groups;
}

// A number that is used in several places (a cached constant) would tie them together in the drawing.
function readersOf(nodes) {
  const readers = new Map();
  for (const { inputs } of nodes) for (const input of inputs) readers.set(input, (readers.get(input) ?? 0) + 1);
  return readers;
}

// A module call that is one operation and nothing else is drawn as that operation.
function worthDrawing(calls, nodes) {
  const members = new Map(calls.map((call) => [call.id, 0]));
  for (const node of nodes) if (node.group !== null) members.set(node.group, members.get(node.group) + 1);
  const parents = new Set(calls.map((call) => call.parent));
  return calls.filter((call) => members.get(call.id) > 1 || parents.has(call.id));
}

function lineage(module, modules) {
  const chain = [];
  for (let at = module; at !== null && at !== undefined; at = modules[at].parent) chain.unshift(at);
  return chain;
}

function naming({ name, path, kind }) {
  return { name: name || kind, path, kind };
}

// A leaf stands in the innermost module call that holds all its consumers.
function placeLeaves(nodes, groups) {
  const parent = new Map(groups.map((group) => [group.id, group.parent]));
  const above = (id) => {
    const chain = [];
    for (let at = id; at !== null; at = parent.get(at)) chain.unshift(at);
    return chain;
  };
  const shared = new Map();
  for (const node of nodes) {
    if (node.kind !== "operation") continue;
    const chain = above(node.group);
    for (const input of node.inputs) {
      if (nodes[input].kind === "operation") continue;
      const known = shared.get(input);
      shared.set(input, known ? known.filter((id, i) => chain[i] === id) : chain);
    }
  }
  for (const [id, chain] of shared) nodes[id].group = chain.at(-1) ?? null;
}

/** The numbers of a statistic that can be shown: exact ones where there are few, else a heat map's cells. */
export function cells(statistics, shape) {
  if (!statistics) return null;
  if (statistics.values) {
    const values = Float64Array.from(statistics.values, real);
    const columns = shape.length ? shape.at(-1) : 1;
    return { rows: values.length / (columns || 1), columns, values, exact: true };
  }
  if (!statistics.heat) return null;
  const { rows, cols, columns = cols, scale, data } = statistics.heat;
  const bytes = atob(data);
  const values = new Float64Array(bytes.length);
  for (let i = 0; i < bytes.length; i++) {
    const byte = (bytes.charCodeAt(i) << 24) >> 24;
    values[i] = byte === -128 ? NaN : (byte / 127) * real(scale);
  }
  return { rows, columns, values, exact: false };
}

/** The one number of a value that has one. */
export function single(statistics) {
  return statistics?.size === 1 && statistics.values ? real(statistics.values[0]) : null;
}
