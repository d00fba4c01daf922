// Kinds of work, and the ops table with its filters.
import { useMemo, useState } from "preact/hooks";
import { count, known, number, percent, words } from "./format.js";
import { Section, ShareBar, SortHead, compare } from "./parts.jsx";

const PAGE = 25;
const ROLES_OF = {
  forward: (op) => op.role === "forward",
  backward: (op) => ["input_grad", "weight_grad", "backward", "recompute"].includes(op.role),
  optimizer: (op) => op.op_class === "optimizer" || op.role === "optimizer",
  communication: (op) => op.op_class === "collective",
  loss: (op) => op.op_class === "softmax_loss",
};

// Those that multiply: where the FLOPs of most of their time are not known, shares of the rest would mislead.
const MULTIPLYING = ["matmul", "convolution", "attention", "recurrent"];

function wholeFlops(classes) {
  const heavy = classes.filter((c) => MULTIPLYING.includes(c.op_class));
  const ms = (some) => some.reduce((sum, c) => sum + (c.ms || 0), 0);
  if (ms(heavy.filter((c) => !known(c.flops))) > ms(heavy.filter((c) => known(c.flops)))) return 0;
  return classes.reduce((sum, c) => sum + (c.flops || 0), 0);
}

export function OpClasses({ study, places }) {
  const [sort, setSort] = useState({ key: "ms", down: true });
  const classes = study.op_classes.filter((c) => c.ms !== 0);
  if (!classes.length) return null;
  const flops = wholeFlops(classes);
  const rows = classes
    .map((c) => ({ ...c, of_flops: known(c.flops) && flops > 0 ? c.flops / flops : null, of_ceiling: known(c.bound_ms) && c.ms > 0 ? c.bound_ms / c.ms : null }))
    .sort(compare(sort.key, sort.down));
  const head = (key, name) => (
    <SortHead column={key} sort={sort} onSort={setSort}>
      {name}
    </SortHead>
  );
  return (
    <Section id="op-classes" title={<>Kinds of work <small>ms a step</small></>}>
      <div class="scroll">
        <table class="sheet">
          <thead>
            <tr>
              <SortHead column="op_class" text sort={sort} onSort={setSort}>
                kind
              </SortHead>
              {head("ms", "ms")}
              {head("share", "of the step")}
              {head("forward_ms", "forward")}
              {head("backward_ms", "backward")}
              {head("of_flops", "of FLOPs")}
              {head("of_ceiling", "of the ceiling")}
            </tr>
          </thead>
          <tbody>
            {rows.map((c) => (
              <tr>
                <th scope="row" class="text">
                  {words(c.op_class)}
                </th>
                <td class="figure">{number(c.ms, places + 1)}</td>
                <td class="figure share">
                  <ShareBar share={c.share} hue="kind" />
                  <span class="value">{percent(c.share)}</span>
                </td>
                <td class="figure">{number(c.forward_ms, places + 1)}</td>
                <td class="figure">{number(c.backward_ms, places + 1)}</td>
                <td class="figure">{percent(c.of_flops)}</td>
                <td class="figure">{percent(c.of_ceiling)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Section>
  );
}

export function Ops({ study, phase, places }) {
  const [sort, setSort] = useState({ key: "ms", down: true });
  const [sought, setSought] = useState("");
  const [kind, setKind] = useState("");
  const [limit, setLimit] = useState(PAGE);
  const kinds = useMemo(() => [...new Set(study.ops.map((op) => op.op_class))].sort(), [study]);
  if (!study.ops.length) return null;
  const text = sought.trim().toLowerCase();
  const rows = study.ops
    .filter((op) => !kind || op.op_class === kind)
    .filter((op) => !ROLES_OF[phase] || ROLES_OF[phase](op))
    .filter((op) => !text || `${op.op} ${op.layer ?? ""} ${op.role} ${op.shapes ?? ""}`.toLowerCase().includes(text))
    .sort(compare(sort.key, sort.down));
  const total = rows.reduce((sum, op) => sum + (op.ms || 0), 0);
  const filters = (
    <>
      <input type="search" placeholder="Find op, layer, shape" aria-label="Find an op" value={sought} onInput={(e) => setSought(e.currentTarget.value)} />
      <select aria-label="Kind of work" value={kind} onChange={(e) => setKind(e.currentTarget.value)}>
        <option value="">all kinds</option>
        {kinds.map((name) => (
          <option value={name}>{words(name)}</option>
        ))}
      </select>
    </>
  );
  const columns = [
    ["op", "op", true],
    ["op_class", "kind", true],
    ["role", "role", true],
    ["layer", "layer", true],
    ["shapes", "shapes", true],
    ["calls", "calls", false],
    ["ms", "ms", false],
    ["flops", "FLOPs", false],
    ["of_ceiling", "of ceiling", false],
  ].filter(([key]) => key === "op" || key === "ms" || study.ops.some((op) => op[key] != null));
  const show = { ms: (v) => number(v, places + 1), flops: count, of_ceiling: percent, calls: (v) => number(v, Number.isInteger(v) ? 0 : 1) };
  return (
    <Section id="ops" title={<>Ops <small>ms a step</small></>} aside={filters}>
      <p class="quiet">
        {number(rows.length, 0)} rows, {number(total, places + 1)} ms{ROLES_OF[phase] ? `, of ${words(phase)}` : ""}
      </p>
      <div class="scroll">
        <table class="sheet ops">
          <thead>
            <tr>
              {columns.map(([key, name, isText]) => (
                <SortHead column={key} text={isText} sort={sort} onSort={setSort}>
                  {name}
                </SortHead>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.slice(0, limit).map((op) => (
              <tr class={op.op_class === "unclassified" ? "odd-one" : ""}>
                {columns.map(([key, , isText]) =>
                  isText ? (
                    <td class={`text ${key}`} title={op[key] ?? ""}>
                      {op[key] == null ? "" : key === "op" || key === "layer" || key === "shapes" ? op[key] : words(op[key])}
                    </td>
                  ) : (
                    <td class="figure">{show[key](op[key])}</td>
                  ),
                )}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {rows.length > limit && (
        <p>
          <button type="button" class="plain" onClick={() => setLimit(limit + 500)}>
            Show more ({number(rows.length - limit, 0)} rows)
          </button>
        </p>
      )}
    </Section>
  );
}
