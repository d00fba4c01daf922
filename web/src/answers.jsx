// The questions with their answers, what would help, what is not certain, and under which conditions.
import { useState } from "preact/hooks";
import { bytes, known, ms, number, percent, words } from "./format.js";
import { Prose, Section } from "./parts.jsx";

const SHOWN = { yes: "Yes", no: "No", partly: "Partly", "not known": "Not known" };
const shownValue = (value) => (typeof value === "number" ? number(value) : typeof value === "string" ? value : JSON.stringify(value));

// The sentence often starts with the answer; beside the badge it would stand there twice.
function rest(answer) {
  const word = SHOWN[answer.answer];
  const said = answer.sentence || "";
  const text = word && said.startsWith(`${word}:`) ? said.slice(word.length + 1).trim() : said;
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function Answers({ answers }) {
  if (!answers.length) return null;
  return (
    <Section id="answers" title="What takes the time?">
      <ul class="answers">
        {answers.map((answer) => (
          <li>
            <span class={`badge badge-${Object.keys(SHOWN).indexOf(answer.answer)}`}>{SHOWN[answer.answer] ?? answer.answer}</span>
            <div>
              <h3>{answer.question}</h3>
              <p>
                <Prose text={rest(answer)} />
              </p>
              {Object.keys(answer.evidence).length > 0 && (
                <details>
                  <summary>evidence</summary>
                  <dl class="pairs">
                    {Object.entries(answer.evidence).map(([key, value]) => (
                      <div>
                        <dt>{words(key)}</dt>
                        <dd>{shownValue(value)}</dd>
                      </div>
                    ))}
                  </dl>
                </details>
              )}
            </div>
          </li>
        ))}
      </ul>
    </Section>
  );
}

export function Findings({ findings }) {
  if (!findings.length) return null;
  return (
    <Section id="findings" title="What would make it faster">
      <ol class="findings">
        {findings.map((finding) => (
          <li>
            <p>
              <Prose text={finding.sentence} />
            </p>
            <p class="quiet">
              {known(finding.saving_ms) ? `saves up to ${ms(finding.saving_ms)} a step` : "what it saves is not known"} · confidence {finding.confidence}
            </p>
            {finding.try && <code class="command">{finding.try}</code>}
          </li>
        ))}
      </ol>
    </Section>
  );
}

const MEMORY = [
  ["parameters_bytes", "parameters"],
  ["gradients_bytes", "gradients"],
  ["optimizer_bytes", "optimizer"],
  ["saved_bytes", "saved for backward"],
];

export function Memory({ memory }) {
  const parts = MEMORY.filter(([key]) => known(memory[key]));
  if (!parts.length && !known(memory.peak_bytes)) return null;
  const total = Math.max(parts.reduce((sum, [key]) => sum + memory[key], 0), memory.peak_bytes || 0) || 1;
  return (
    <Section id="memory" title="Memory" aside={known(memory.peak_bytes) ? `peak ${bytes(memory.peak_bytes)}` : null}>
      <div class="memory-bar" aria-hidden="true">
        {parts.map(([key], i) => (
          <span class={`mem-${i}`} style={{ width: `${(memory[key] / total) * 100}%` }} />
        ))}
      </div>
      <ul class="legend">
        {parts.map(([key, name], i) => (
          <li>
            <span class={`dot mem-${i}`} aria-hidden="true" /> {name} <b>{bytes(memory[key])}</b>
          </li>
        ))}
      </ul>
    </Section>
  );
}

export function Doubts({ study, cut }) {
  const { step, run } = study;
  const said = [];
  if (known(step.residual_ms) && Math.abs(step.residual_ms) < 0.0005) said.push("Every part of the step has a name.");
  else if (known(step.residual_ms)) said.push(`Nobody claims ${ms(step.residual_ms)}${known(step.accounted_share) ? ` (${percent(1 - step.accounted_share)} of the step)` : ""}.`);
  else said.push("How much of the step nobody claims is not known.");
  if (known(step.profiled_probe_share) && step.profiled_probe_share < 0) said.push(`What the deepest level cost its own steps is less than the noise (${percent(step.profiled_probe_share)}).`);
  else if (known(step.profiled_probe_share)) said.push(`The deepest level added ${percent(step.profiled_probe_share)} to its own steps; it is taken off.`);
  if (run.steps.set_aside > 0) said.push(`Set aside as hiccups: ${run.steps.set_aside} of ${run.steps.measured} measured steps.`);
  if (!["window", "script end"].includes(run.stopped)) said.push(`The run ended early (${run.stopped}); this is what was measured until then.`);
  return (
    <Section id="doubts" title="What is not certain">
      <ul class="doubts">
        {[...said, ...run.warnings, ...cut].map((sentence) => (
          <li>
            <Prose text={sentence} />
          </li>
        ))}
      </ul>
    </Section>
  );
}

const COUNTS = [
  ["seen", "seen"],
  ["warmup", "warm-up"],
  ["measured", "measured"],
  ["profiled", "profiled deeper"],
];

export function Conditions({ study }) {
  const { run, machine } = study;
  const counts = run.steps;
  const rows = [
    ["script", [run.script, ...run.argv].filter(Boolean).join(" ")],
    ["device", run.device],
    ["framework", run.framework],
    ["machine", machine.name],
    ["cores and threads", [machine.cores, machine.threads].filter((x) => x != null).join(" and ")],
    ["steps", COUNTS.filter(([key]) => counts[key] > 0).map(([key, name]) => `${counts[key]} ${name}`).join(", ")],
    ["source", run.source],
    ["ended by", run.stopped],
    ...Object.entries(machine.ceilings).map(([key, value]) => [`ceiling: ${words(key)}`, shownValue(value)]),
    ...Object.entries(run.facts).map(([key, value]) => [words(key), value]),
  ].filter(([, value]) => value);
  return (
    <Section id="conditions" title="How it was measured">
      <dl class="pairs wide">
        {rows.map(([key, value]) => (
          <div>
            <dt>{key}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </Section>
  );
}

export function Copy({ study }) {
  const [said, setSaid] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(JSON.stringify(study, null, 1));
      setSaid("copied");
    } catch {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([JSON.stringify(study, null, 1)], { type: "application/json" }));
      link.download = "study.json";
      link.click();
      setSaid("saved as study.json");
    }
  };
  return (
    <p>
      <button type="button" class="plain" id="copy-json" onClick={copy}>
        Copy JSON
      </button>{" "}
      <span role="status">{said}</span>
    </p>
  );
}
