// One step as a stacked bar of phases; a phase that is clicked filters what follows.
import { useState } from "preact/hooks";
import { known, ms, number, percent, words } from "./format.js";
import { Section, Tip } from "./parts.jsx";

export function backwardSplit(study) {
  const sum = (rows, key) => rows.reduce((total, row) => (known(row[key]) ? (total ?? 0) + row[key] : total), null);
  // A container's own work counts, too: an attention that is no module of its own.
  const own = study.layers.map((layer) =>
    layer.container ? { inputs: layer.own_input_grad_ms, weights: layer.own_weight_grad_ms } : { inputs: layer.input_grad_ms, weights: layer.weight_grad_ms },
  );
  const ofRole = (role) => sum(study.ops.filter((op) => op.role === role), "ms");
  let [inputs, weights] = [sum(own, "inputs"), sum(own, "weights")];
  if (inputs === null && weights === null) [inputs, weights] = [ofRole("input_grad"), ofRole("weight_grad")];
  const phase = study.phases.find((p) => p.phase === "backward");
  if (inputs === null || weights === null) return null;
  const again = ofRole("recompute");
  const other = phase && known(phase.ms) ? phase.ms - inputs - weights - (again ?? 0) : null;
  return { inputs, weights, again, other: other !== null && other >= 0 ? other : null };
}

function note(study, phase, places) {
  if (phase.note) return phase.note;
  const split = phase.phase === "backward" ? backwardSplit(study) : null;
  if (split) {
    const other = split.other === null ? "" : ` · other ${number(split.other, places)}`;
    const again = split.again ? ` · forward again ${number(split.again, places)}` : "";
    return `input gradients ${number(split.inputs, places)} · weight gradients ${number(split.weights, places)}${again}${other}`;
  }
  const sites = [...phase.sites].sort((a, b) => b.ms - a.ms);
  return sites.length ? sites[0].where : "";
}

function interval(phase, places) {
  if (!known(phase.low) || !known(phase.high)) return "";
  const [low, high] = [number(phase.low, places), number(phase.high, places)];
  return low === high ? "" : `${low} to ${high}`;
}

export function PhaseBar({ study, whole, phase, setPhase, places }) {
  const [tip, setTip] = useState(null);
  const shown = study.phases.filter((p) => p.ms !== 0);
  if (!shown.length) return null;
  const total = shown.reduce((sum, p) => sum + Math.max(p.ms || 0, 0), 0) || 1;
  const toggle = (name) => setPhase(phase === name ? null : name);
  const tipOf = (p) => (event) =>
    setTip({ x: event.clientX, y: event.clientY, title: words(p.phase), lines: [`${ms(p.ms, places)} · ${percent(p.share)}`, note(study, p, places)].filter(Boolean) });
  const mean = study.step.wall_ms.mean;
  const median = study.step.wall_ms.median;
  const uneven = known(mean) && known(median) && median > 0 && Math.abs(mean - median) > 0.05 * median;
  return (
    <Section id="step" title={`One step, ${ms(whole, places)}`} aside={uneven ? `the mean; the median step takes ${ms(median, places)}` : null}>
      <div class="phase-bar" onMouseLeave={() => setTip(null)}>
        {shown.map((p) => (
          <button
            type="button"
            class={`hue-${p.phase} ${phase && phase !== p.phase ? "faded" : ""}`}
            style={{ flexGrow: Math.max(p.ms || 0, 0) / total, flexBasis: 0 }}
            aria-pressed={phase === p.phase}
            aria-label={`${words(p.phase)}, ${ms(p.ms, places)}, ${percent(p.share)}`}
            onClick={() => toggle(p.phase)}
            onMouseMove={tipOf(p)}
          >
            {(p.ms || 0) / total > 0.055 + 0.007 * p.phase.length && (
              <span>
                {words(p.phase)} <b>{percent(p.share)}</b>
              </span>
            )}
          </button>
        ))}
      </div>
      <table class="phases">
        <tbody>
          {shown.map((p) => (
            <tr class={`${phase === p.phase ? "chosen" : ""} ${phase && phase !== p.phase ? "faded" : ""}`} onClick={() => toggle(p.phase)}>
              <th scope="row">
                <span class={`dot hue-${p.phase}`} aria-hidden="true" />
                {words(p.phase)}
              </th>
              <td class="figure">{ms(p.ms, places)}</td>
              <td class="figure">{percent(p.share)}</td>
              <td class="figure quiet interval">{interval(p, places)}</td>
              <td class="quiet note">{note(study, p, places)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {phase && <Chosen phase={shown.find((p) => p.phase === phase)} places={places} clear={() => setPhase(null)} />}
      <Tip tip={tip} />
    </Section>
  );
}

const FILTERS = {
  forward: "Layers below are in order of forward, ops are those of forward.",
  backward: "Layers below are in order of backward, ops are those of backward.",
  optimizer: "Layers below are in order of the optimizer, ops are the optimizer's.",
  communication: "Ops below are the collectives.",
  loss: "Ops below are those of the loss.",
};

function Chosen({ phase, places, clear }) {
  if (!phase) return null;
  const sites = [...phase.sites].sort((a, b) => b.ms - a.ms).slice(0, 20);
  return (
    <div class="chosen-phase">
      <p>
        {FILTERS[phase.phase] ?? (sites.length > 0 ? "Where it goes:" : "No layer and no source line of it is known.")}{" "}
        <button type="button" class="link" onClick={clear}>
          Show all
        </button>
      </p>
      {sites.length > 0 && (
        <ul>
          {sites.map((site) => (
            <li>
              <code>{site.where}</code> <span class="quiet">{ms(site.ms, places)}</span>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
