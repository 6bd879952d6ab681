// What an item of the graph shows at a given moment: its name, one line about it, and its state.

import { real, single } from "./explanation.js";
import { count, number, shapeText } from "./numbers.js";

/** A function from an item's id to its look, for a moment of the course. */
export function looks(explanation, graph, course) {
  const largest = explanation.nodes.reduce((most, node) => Math.max(most, rms(node.gradient)), 0);
  return (id) =>
    graph.isGroup(id) ? groupLook(explanation, graph, course, id) : nodeLook(explanation, course, id, largest);
}

function nodeLook(explanation, course, id, largest) {
  const node = explanation.nodes[id];
  const value = course.hasValue(node);
  const gradient = course.hasGradient(node);
  const state = `${value ? "valued" : "waiting"}${gradient ? ` derived g${grade(rms(node.gradient), largest)}` : ""}`;
  const detail = gradient ? gradientText(node.gradient) : valueText(node, value);
  const label = withinModule(node.label, explanation.groupOf.get(node.call)?.path);
  const name = node.kind === "operation" && node.primitive !== label ? `${label} · ${node.primitive}` : label;
  const isLoss = node === explanation.loss;
  const asked = explanation.wrt.includes(node);
  const spoken = [
    name,
    node.kind === "operation" ? "" : node.kind,
    isLoss ? "the loss" : "",
    asked ? "asked for" : "",
    detail,
  ]
    .filter(Boolean)
    .join(", ");
  return { title: name, detail, kind: `${node.kind}${isLoss ? " loss" : ""}${asked ? " asked" : ""}`, spoken, state };
}

// Inside the module blocks.0.down its weight is called weight, and its result down.
function withinModule(label, path) {
  if (!path) return label;
  if (label.startsWith(`${path}.`)) return label.slice(path.length + 1);
  return label.startsWith(path) && path.includes(".") ? label.slice(path.lastIndexOf(".") + 1) : label;
}

function valueText(node, known) {
  const value = known ? single(node.value) : null;
  return value === null ? shapeText(node.shape) : `= ${number(value)}`;
}

function gradientText(gradient) {
  if (!gradient) return "several results";
  const value = single(gradient);
  return value === null ? `‖∂L‖ ${number(real(gradient.norm), 3)}` : `∂L = ${number(value)}`;
}

function groupLook(explanation, graph, course, id) {
  const group = explanation.groupOf.get(id);
  const open = graph.isOpen(id);
  const nth = group.calls > 1 ? ` (call ${group.call} of ${group.calls})` : "";
  const title = group.name === group.kind ? group.kind : `${group.name} · ${group.kind}`;
  const operations = count(graph.members.get(id), "node");
  return {
    title: title + nth,
    detail: operations,
    kind: "module",
    spoken: `${open ? "open" : "closed"} module ${title}${nth}, ${operations}`,
    state: groupState(explanation, graph, course, id),
  };
}

function groupState(explanation, graph, course, id) {
  const first = explanation.nodes[graph.order(id)];
  if (!first) return "valued";
  return `${course.hasValue(first) ? "valued" : "waiting"}${course.hasGradient(first) ? " derived" : ""}`;
}

function rms(statistics) {
  return statistics && statistics.size ? real(statistics.norm) / Math.sqrt(statistics.size) || 0 : 0;
}

// Five grades over six powers of ten, for the strip at a node's side.
function grade(size, largest) {
  if (!(size > 0) || !(largest > 0)) return 0;
  return Math.max(1, Math.min(5, Math.round(5 + (5 * Math.log10(size / largest)) / 6)));
}
