// The module tree from dotted paths, as longpole/report/layertree.py grows it.
const DEEPEST = 100;

export function grow(layers) {
  const nodes = new Map();
  const tops = [];
  for (const time of layers) {
    const node = { id: nodes.size, path: time.layer, label: time.layer, time, parent: null, children: [], depth: 0 };
    if (nodes.has(time.layer)) tops.push(node);
    else nodes.set(time.layer, node);
  }
  for (const node of nodes.values()) {
    const parent = parentOf(node.path, nodes);
    node.parent = parent;
    node.label = labelOf(node, parent);
    (parent ? parent.children : tops).push(node);
  }
  const stack = tops.map((node) => [node, 0]);
  while (stack.length) {
    const [node, depth] = stack.pop();
    node.depth = depth;
    for (const child of node.children) stack.push([child, depth + 1]);
  }
  let id = 0;
  walk(tops, (node) => {
    node.id = id++;
  });
  return tops;
}

function parentOf(path, nodes) {
  if (path === "" || path.split(".").length > DEEPEST) return null;
  let at = path;
  while (at) {
    const dot = at.lastIndexOf(".");
    at = dot < 0 ? "" : at.slice(0, dot);
    if (nodes.has(at)) return nodes.get(at);
  }
  return null;
}

function labelOf(node, parent) {
  if (!node.path) return node.time.type || "(whole model)";
  return parent && parent.path ? node.path.slice(parent.path.length + 1) : node.path;
}

// Visits in order, without recursion: a hostile study may nest deeply. `enter` false leaves the inside out.
export function walk(tops, enter) {
  const stack = [...tops].reverse();
  while (stack.length) {
    const node = stack.pop();
    if (enter(node) === false) continue;
    for (let i = node.children.length - 1; i >= 0; i--) stack.push(node.children[i]);
  }
}
