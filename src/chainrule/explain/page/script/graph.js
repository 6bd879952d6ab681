// The graph with its modules: which nodes there are, which module call each belongs to, and
// which modules are open. What is inside a closed module is represented by the module.

export class Graph {
  /**
   * nodes: [{ id, inputs: [id], group: id or null, hidden, … }] in topological order; hidden ones are not drawn.
   * groups: [{ id, parent: id or null, … }], parents first; ids differ from those of nodes.
   */
  constructor(nodes, groups) {
    this.root = "root";
    this.nodes = nodes;
    this.groups = groups;
    this.open = new Set();
    this.byId = new Map([...nodes, ...groups].map((item) => [item.id, item]));
    this.groupIds = new Set(groups.map((group) => group.id));
    this.inside = new Map([[this.root, []], ...groups.map((group) => [group.id, []])]);
    this.consumers = new Map(nodes.map((node) => [node.id, []]));
    for (const node of nodes) for (const input of node.inputs) this.consumers.get(input).push(node.id);
    this.first = new Map();
    this.members = new Map(groups.map((group) => [group.id, 0]));
    nodes.forEach((node, index) => {
      if (node.hidden) return;
      this.inside.get(this.parent(node.id)).push(node.id);
      for (const group of this.ancestors(node.id)) {
        this.members.set(group, this.members.get(group) + 1);
        if (node.inputs.length && !this.first.has(group)) this.first.set(group, index);
      }
      this.first.set(node.id, node.inputs.length ? index : -1);
    });
    for (const group of groups) this.inside.get(this.parent(group.id)).push(group.id);
    for (const list of this.inside.values()) list.sort((a, b) => this.order(a) - this.order(b));
  }

  order(id) {
    return this.first.get(id) ?? -1;
  }

  node(id) {
    return this.byId.get(id);
  }

  isGroup(id) {
    return this.groupIds.has(id);
  }

  isOpen(id) {
    return this.open.has(id);
  }

  parent(id) {
    const item = this.byId.get(id);
    return (this.isGroup(id) ? item.parent : item.group) ?? this.root;
  }

  /** The modules around an item, innermost first. */
  ancestors(id) {
    const chain = [];
    for (let at = this.parent(id); at !== this.root; at = this.parent(at)) chain.push(at);
    return chain;
  }

  /** Nodes and modules directly inside a module, in topological order; empty modules are left out. */
  children(group) {
    return this.inside.get(group).filter((id) => !this.isGroup(id) || this.members.get(id) > 0);
  }

  /** What stands for a node now: itself, or the outermost closed module around it. */
  visibleItem(id) {
    let item = id;
    for (const group of this.ancestors(id)) if (!this.open.has(group)) item = group;
    return item;
  }

  /** For two visible items: the module in which their paths part, and what stands for each of them there. */
  levelOf(a, b) {
    const left = [a, ...this.ancestors(a), this.root];
    const right = [b, ...this.ancestors(b), this.root];
    let i = left.length - 1;
    let j = right.length - 1;
    while (i > 0 && j > 0 && left[i - 1] === right[j - 1]) {
      i--;
      j--;
    }
    return [left[i], left[i - 1], right[j - 1]];
  }

  /** Open every module around an item, so that it is visible; whether anything changed. */
  reveal(id) {
    const closed = this.ancestors(id).filter((group) => !this.open.has(group));
    for (const group of closed) this.open.add(group);
    return closed.length > 0;
  }

  /** Open modules level by level, as long as not much more than `room` items are visible. */
  openWithin(room) {
    let visible = this.children(this.root).length;
    let level = this.groups.filter((group) => this.parent(group.id) === this.root);
    while (level.length) {
      const more = level.reduce((sum, group) => sum + this.children(group.id).length - 1, 0);
      if (visible + more > room) return;
      visible += more;
      for (const group of level) this.open.add(group.id);
      const ids = new Set(level.map((group) => group.id));
      level = this.groups.filter((group) => ids.has(group.parent));
    }
  }
}
