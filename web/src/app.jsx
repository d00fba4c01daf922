// The page in reading order: answer, proof, remedy, doubt, detail.
import { useMemo, useState } from "preact/hooks";
import { Answers, Conditions, Copy, Doubts, Findings, Memory } from "./answers.jsx";
import { number, known, ms, decimalsFor, percent } from "./format.js";
import { Communication, CriticalPath } from "./devices.jsx";
import { Icicle } from "./icicle.jsx";
import { Layers } from "./layers.jsx";
import { OpClasses, Ops } from "./ops.jsx";
import { Prose } from "./parts.jsx";
import { PhaseBar } from "./phases.jsx";
import { Ranks } from "./ranks.jsx";
import { StepTimes } from "./steps.jsx";
import { Timeline } from "./timeline.jsx";

export function wholeMs(study) {
  for (const value of [study.step.wall_ms.mean, study.step.wall_ms.median]) if (known(value)) return value;
  const sum = study.phases.reduce((total, phase) => total + (phase.ms || 0), 0);
  return sum > 0 ? sum : null;
}

function subject(run) {
  const steps = run.steps;
  const counted = steps.measured > 0 ? `${steps.measured} of ${steps.seen} steps measured` : steps.seen > 0 ? `${steps.seen} steps` : "";
  const ranks = run.world_size > 1 ? `${run.world_size} ranks` : "";
  const batch = run.batch_size != null ? `batch ${run.batch_size}` : "";
  return [run.script, run.model, batch, run.device, ranks, counted].filter(Boolean);
}

function Headline({ study }) {
  const said = study.headline || "What takes longest is not known: no step was measured.";
  const [lead, whole] = said.startsWith("The long pole: ") ? ["The long pole", said.slice(15)] : ["", said];
  const end = whole.search(/\. \p{Lu}/u);
  const [rest, more] = end > 0 ? [whole.slice(0, end + 1), whole.slice(end + 2)] : [whole, ""];
  return (
    <header class="top">
      <p class="subject">
        <span class="brand">longpole</span>
        {subject(study.run).map((part) => (
          <span>{part}</span>
        ))}
      </p>
      {lead && <p class="lead">{lead}</p>}
      <h1>
        <Prose text={rest} />
      </h1>
      {more && (
        <p class="more">
          <Prose text={more} />
        </p>
      )}
      <StepLine study={study} />
    </header>
  );
}

function StepLine({ study }) {
  const { step } = study;
  const wall = step.wall_ms;
  const middle = known(wall.median) ? wall.median : wall.mean;
  const places = decimalsFor(middle);
  const items = [
    ["a step", ms(middle, places), known(wall.low) && known(wall.high) ? `${number(wall.low, places)} to ${number(wall.high, places)} (95 %)` : ""],
    ["rate", known(step.samples_per_s) ? number(step.samples_per_s) : null, "samples/s"],
    ["accounted for", known(step.accounted_share) ? percent(step.accounted_share) : null, "of the step has a name"],
    ["cost of measuring", percent(step.probe_share), known(step.probe_share) ? "of the timed steps" : "not known"],
  ];
  return (
    <dl class="figures">
      {items
        .filter((item) => item[1] !== null)
        .map(([name, value, note]) => (
          <div>
            <dt>{name}</dt>
            <dd>
              {value} {note && <small>{note}</small>}
            </dd>
          </div>
        ))}
    </dl>
  );
}

export function App({ data }) {
  const { study, timeline, cut } = data;
  const whole = useMemo(() => wholeMs(study), [study]);
  const [phase, setPhase] = useState(null);
  const view = { study, whole, phase, setPhase, places: decimalsFor(whole) };
  return (
    <main>
      <Headline study={study} />
      <PhaseBar {...view} />
      <Answers answers={study.answers} />
      <Findings findings={study.findings} />
      <Layers {...view} />
      <Icicle {...view} />
      <OpClasses {...view} />
      <Ops {...view} />
      <StepTimes {...view} />
      <Ranks {...view} />
      <Communication study={study} />
      <CriticalPath study={study} />
      <Timeline timeline={timeline} />
      <Memory memory={study.memory} />
      <Doubts study={study} cut={cut} />
      <Conditions study={study} />
      <footer>
        <Copy study={study} />
        <p>Times are milliseconds a step. A dash is what is not known. This file works offline and asks for nothing.</p>
      </footer>
    </main>
  );
}
