// The layer table: sorts, folds like the module tree, works by keyboard (arrows, Enter).
import { useEffect, useMemo, useState } from "preact/hooks";
import { bytes, count, known, number, percent } from "./format.js";
import { Choice, Section, ShareBar, SortHead, compare } from "./parts.jsx";
import { grow, walk } from "./tree.js";

const PAGE = 300;
const PHASE_COLUMN = { forward: "forward_ms", backward: "backward_ms", optimizer: "optimizer_ms" };
const COLUMNS = [
  ["forward_ms", "forward", "forward"],
  ["backward_ms", "backward", "backward"],
  ["input_grad_ms", "input grad", "input_grad"],
  ["weight_grad_ms", "weight grad", "weight_grad"],
  ["recompute_ms", "recompute", "recompute"],
  ["optimizer_ms", "optimizer", "optimizer"],
  ["total_ms", "total", null],
  ["share", "share", null],
  ["saved_bytes", "saved", null],
  ["flops", "FLOPs", null],
  ["bound_ms", "bound", null],
];
const SHOW = { share: percent, saved_bytes: bytes, flops: count };

// Opens what matters: down to some forty rows, of siblings made alike only the largest.
function firstOpen(tops) {
  const open = new Set();
  let rows = tops.length;
  const queue = [...tops];
  while (queue.length && rows < 40) {
    const node = queue.shift();
    if (!node.children.length || rows + node.children.length > 60) continue;
    open.add(node.id);
    rows += node.children.length;
    const best = new Map();
    for (const child of node.children) {
      const make = [child.time.type, ...child.children.slice(0, 50).map((one) => `${one.label}:${one.time.type}`)].join("/");
      const rival = best.get(make);
      if (!rival || (child.time.total_ms || 0) > (rival.time.total_ms || 0)) best.set(make, child);
    }
    queue.push(...[...best.values()].filter((child) => child.children.length));
  }
  return open;
}

function visibleRows(tops, open, sort, sought, flat) {
  const out = [];
  const text = sought.trim().toLowerCase();
  const order = sort.key && compareNodes(sort);
  if (flat || text) {
    walk(tops, (node) => {
      const fits = text ? `${node.path} ${node.time.type}`.toLowerCase().includes(text) : !node.children.length;
      if (fits) out.push(node);
    });
    return order ? out.sort(order) : out;
  }
  const sorted = (nodes) => (order ? [...nodes].sort(order) : nodes);
  const stack = [...sorted(tops)].reverse();
  while (stack.length) {
    const node = stack.pop();
    out.push(node);
    if (open.has(node.id)) stack.push(...[...sorted(node.children)].reverse());
  }
  return out;
}

function compareNodes({ key, down }) {
  const by = compare(key, down);
  return (a, b) => by(a.time, b.time);
}

function above(row) {
  const level = Number(row.getAttribute("aria-level"));
  let at = row.previousElementSibling;
  while (at && Number(at.getAttribute("aria-level")) >= level) at = at.previousElementSibling;
  return at;
}

export function Layers({ study, phase, places, whole }) {
  const tops = useMemo(() => grow(study.layers), [study]);
  const [open, setOpen] = useState(() => firstOpen(tops));
  const [sort, setSort] = useState({ key: null, down: true });
  const [sought, setSought] = useState("");
  const [form, setForm] = useState("tree");
  const [limit, setLimit] = useState(PAGE);
  const [focus, setFocus] = useState(0);

  useEffect(() => {
    setSort({ key: PHASE_COLUMN[phase] ?? null, down: true });
  }, [phase]);

  if (!study.layers.length) {
    return (
      <Section id="layers" title="Layers">
        <p class="quiet">No layer is known: nothing told which module the work belongs to.</p>
      </Section>
    );
  }
  const flat = form === "flat" || sought.trim() !== "";
  const rows = visibleRows(tops, open, sort, sought, flat);
  const shown = rows.slice(0, limit);
  const at = Math.min(focus, shown.length - 1);
  const split = study.layers.some((x) => known(x.input_grad_ms) || known(x.weight_grad_ms));
  const columns = COLUMNS.filter(([key]) => (key === "backward_ms" ? !split || phase === "backward" : key === "total_ms" || study.layers.some((x) => known(x[key]) && (key !== "recompute_ms" || x[key] > 0))));

  const fold = (node, wanted) => {
    if (!node.children.length || flat) return;
    setOpen((now) => {
      const next = new Set(now);
      (wanted ?? !now.has(node.id)) ? next.add(node.id) : next.delete(node.id);
      return next;
    });
  };
  // Moves by the rows that are there, not by state: keys that repeat come faster than pictures.
  const onKey = (event) => {
    const row = event.target.closest("tr");
    const node = shown.find((one) => String(one.id) === row.dataset.id);
    const state = row.getAttribute("aria-expanded");
    const moves = {
      ArrowDown: () => row.nextElementSibling,
      ArrowUp: () => row.previousElementSibling,
      Home: () => row.parentElement.firstElementChild,
      End: () => row.parentElement.lastElementChild,
      ArrowRight: () => (state === "true" ? row.nextElementSibling : fold(node, true)),
      ArrowLeft: () => (state === "true" ? fold(node, false) : above(row)),
      Enter: () => fold(node),
      " ": () => fold(node),
    };
    if (!node || !moves[event.key]) return;
    event.preventDefault();
    moves[event.key]()?.focus();
  };
  const openAll = () => {
    const all = new Set();
    walk(tops, (node) => {
      if (node.children.length) all.add(node.id);
    });
    setOpen(all);
  };

  const controls = (
    <>
      <input type="search" placeholder="Find a layer" aria-label="Find a layer" value={sought} onInput={(e) => setSought(e.currentTarget.value)} />
      <Choice label="Form of the layer table" value={form} onChange={setForm} options={[["tree", "Tree"], ["flat", "Flat"]]} />
      {!flat && (
        <>
          <button type="button" class="link" id="open-all" onClick={openAll}>
            Unfold
          </button>
          <button type="button" class="link" id="close-all" onClick={() => setOpen(new Set())}>
            Fold
          </button>
        </>
      )}
    </>
  );
  return (
    <Section id="layers" title={<>Layers <small>ms a step</small></>} aside={controls}>
      <div class="scroll">
        <table role="treegrid" aria-label="Layers" class="sheet layers">
          <thead>
            <tr>
              <SortHead column="layer" text sort={sort} onSort={setSort}>
                layer
              </SortHead>
              {columns.map(([key, name]) => (
                <SortHead column={key} sort={sort} onSort={setSort}>
                  {name}
                </SortHead>
              ))}
            </tr>
          </thead>
          <tbody onKeyDown={onKey}>
            {shown.map((node, i) => (
              <Row key={node.id} node={node} open={open.has(node.id)} flat={flat} columns={columns} places={places} whole={whole} tabIndex={i === at ? 0 : -1} onFocus={() => setFocus(i)} onFold={() => fold(node)} />
            ))}
          </tbody>
        </table>
      </div>
      {rows.length > limit && (
        <p>
          <button type="button" class="plain" onClick={() => setLimit(limit + 1000)}>
            Show more ({number(rows.length - limit, 0)} rows)
          </button>
        </p>
      )}
    </Section>
  );
}

function Row({ node, open, flat, columns, places, whole, tabIndex, onFocus, onFold }) {
  const { time, children } = node;
  const folds = children.length > 0 && !flat;
  return (
    <tr
      role="row"
      data-id={node.id}
      aria-level={flat ? 1 : node.depth + 1}
      aria-expanded={folds ? open : undefined}
      class={children.length ? "container" : ""}
      tabIndex={tabIndex}
      onFocus={onFocus}
    >
      <th scope="row" class="text" onClick={onFold}>
        <span class="tree" style={{ paddingLeft: `${flat ? 0 : Math.min(node.depth, 14) * 16}px` }}>
          <span class="twist" aria-hidden="true">
            {folds ? (open ? "▾" : "▸") : ""}
          </span>
          <span class="name">{flat ? node.path || node.label : node.label}</span>
          {time.type && time.type !== node.label && <span class="type">{time.type}</span>}
        </span>
      </th>
      {columns.map(([key, , hue]) =>
        key === "share" ? (
          <td class="figure share">
            <ShareBar share={time.share} />
            <span class="value">{percent(time.share)}</span>
          </td>
        ) : (
          <td class={`figure ${hue ? `heat hue-text-${hue}` : ""}`} style={hue && known(time[key]) && whole && !children.length ? { "--heat": `${Math.min((time[key] / whole) * 700, 55)}%` } : undefined}>
            {(SHOW[key] ?? ((v) => number(v, places + 1)))(time[key])}
          </td>
        ),
      )}
    </tr>
  );
}
