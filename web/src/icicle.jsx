// The icicle of layer × role: width is time, one row a level of the module tree, roles at the bottom.
import { hierarchy, partition } from "d3-hierarchy";
import { useMemo, useState } from "preact/hooks";
import { Flame } from "./flame.jsx";
import { known, ms, percent, words } from "./format.js";
import { Choice, Section } from "./parts.jsx";
import { grow } from "./tree.js";

const ROLES = [
  ["forward_ms", "forward", "forward"],
  ["input_grad_ms", "input gradient", "input_grad"],
  ["weight_grad_ms", "weight gradient", "weight_grad"],
  ["undivided_ms", "backward, not divided", "backward"],
  ["recompute_ms", "recompute", "recompute"],
  ["optimizer_ms", "optimizer", "optimizer"],
];
const IN_LAYERS = new Set(["forward", "backward", "optimizer"]);
const DEEPEST = 14;

// Milliseconds of each role; what backward is not divided into stays as it is, so the parts sum.
function roleMs(time) {
  const value = (key) => (known(time[key]) ? Math.max(time[key], 0) : 0);
  const undivided = Math.max(value("backward_ms") - value("input_grad_ms") - value("weight_grad_ms"), 0);
  return { ...Object.fromEntries(ROLES.map(([key]) => [key, value(key)])), undivided_ms: undivided };
}

function branch(node, wanted, depth) {
  const mine = roleMs(node.time);
  const inside = depth < DEEPEST ? node.children.map((child) => branch(child, wanted, depth + 1)) : [];
  const parts = wanted.map(([key, name, hue]) => {
    const below = inside.reduce((sum, child) => sum + child.sums[key], 0);
    return { name: inside.length ? `${name}, in no part of it` : name, hue, key, ms: Math.max(mine[key] - below, 0), path: node.path };
  });
  const sums = Object.fromEntries(wanted.map(([key], i) => [key, parts[i].ms + inside.reduce((sum, child) => sum + child.sums[key], 0)]));
  const roles = parts.filter((part) => part.ms > 1e-6);
  return { name: node.label, path: node.path, hue: "layer", type: node.time.type, sums, children: [...inside, ...roles] };
}

function byLayer(tops) {
  return { name: "in layers", hue: "layer-strong", children: tops.map((node) => branch(node, ROLES, 0)) };
}

function byRole(tops) {
  const children = ROLES.map((role) => {
    const inside = tops.map((node) => branch(node, [role], 0));
    return { name: role[1], hue: role[2], children: inside };
  });
  return { name: "in layers", hue: "layer-strong", children };
}

function sum(node) {
  return node.children ? node.children.reduce((total, child) => total + sum(child), 0) : node.ms;
}

// What no layer claims: phases outside the network as they are, the rest of the step as one part.
function outside(study, whole, layersMs) {
  const rest = whole - layersMs;
  const parts = study.phases
    .filter((p) => !IN_LAYERS.has(p.phase) && p.ms > 0)
    .map((p) => ({ name: words(p.phase), hue: p.phase, ms: p.ms }));
  const named = parts.reduce((total, part) => total + part.ms, 0);
  if (rest < named * 0.98) return rest > 0 ? [{ name: "outside layers", hue: "other", ms: rest }] : [];
  return [...parts, { name: "in no layer", hue: "other", ms: Math.max(rest - named, 0) }];
}

function boxesOf(study, whole, form) {
  const tops = grow(study.layers);
  const inLayers = (form === "role" ? byRole : byLayer)(tops);
  const layersMs = sum(inLayers);
  const rest = known(whole) ? outside(study, whole, layersMs) : [];
  const total = layersMs + rest.reduce((all, part) => all + part.ms, 0);
  const root = hierarchy({ name: "step", hue: "layer-strong", children: [inLayers, ...rest] }).sum((node) => (node.children ? 0 : node.ms));
  partition().size([total || 1, 1])(root);
  const boxes = root.descendants().map((node) => ({
    x0: node.x0,
    x1: node.x1,
    row: node.depth,
    label: node.data.name,
    title: [node.data.path || null, node.data.key || !node.data.path ? node.data.name : null].filter(Boolean).join(" · ") || node.data.name,
    hue: node.data.hue,
    ink: String(node.data.hue).startsWith("layer") ? "ink" : "on-hue",
    tip: [`${ms(node.value)} · ${percent(total ? node.value / total : null)} of the step`, node.data.type || ""].filter(Boolean),
  }));
  return { boxes: boxes.filter((box) => box.x1 - box.x0 > total / 1e5), span: total || 1, rows: root.height + 1 };
}

export function Icicle({ study, whole }) {
  const [form, setForm] = useState("layer");
  const picture = useMemo(() => boxesOf(study, whole, form), [study, whole, form]);
  if (!study.layers.length) return null;
  const used = ROLES.filter(([, , hue]) => picture.boxes.some((box) => box.hue === hue));
  return (
    <Section
      id="icicle"
      title="Layer by role"
      aside={<Choice label="Order of the icicle" value={form} onChange={setForm} options={[["layer", "Layer, then role"], ["role", "Role, then layer"]]} />}
    >
      <ul class="legend">
        {used.map(([, name, hue]) => (
          <li>
            <span class={`dot hue-${hue}`} aria-hidden="true" /> {name}
          </li>
        ))}
        <li>
          <span class="dot hue-layer" aria-hidden="true" /> layer
        </li>
      </ul>
      <Flame {...picture} label="Icicle of layers by role; width is time. The layer table above has the same figures." />
    </Section>
  );
}
