// Each step's wall time as a dot: drift, hiccups and which steps were measured deeper.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { known, ms, number } from "./format.js";
import { Section, useScheme, useWidth } from "./parts.jsx";

const KINDS = [
  ["measured", "forward"],
  ["profiled", "backward"],
  ["set aside", "communication"],
  ["warmup", "idle"],
];

export function StepTimes({ study }) {
  const holder = useRef(null);
  const width = useWidth2(holder, study.step.samples.length > 1);
  const scheme = useScheme();
  const samples = study.step.samples.filter((s) => known(s.ms));
  // One slow first step must not press all others flat: what is far out is drawn at the edge, and said.
  const values = samples.map((s) => s.ms).sort((a, b) => a - b);
  const top = Math.min(values[values.length - 1], 3 * values[values.length >> 1]);
  const far = samples.filter((s) => s.ms > top).length;
  const kinds = KINDS.filter(([kind]) => samples.some((s) => s.kind === kind));
  useEffect(() => {
    if (!width || samples.length < 2) return undefined;
    const style = getComputedStyle(holder.current);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const axis = { stroke: colour("quiet"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const series = kinds.map(([kind, hue]) => ({
      label: kind,
      stroke: colour(hue),
      width: 0,
      paths: () => null,
      points: { show: true, size: 7, fill: colour(hue), stroke: colour("paper"), width: 1 },
      value: (_, v) => ms(v),
    }));
    const plot = new uPlot(
      {
        width,
        height: 170,
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false } },
        scales: { x: { time: false }, y: { range: [0, top * 1.06] } },
        axes: [{ ...axis, size: 24, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000] }, { ...axis, size: 58, values: (_, ticks) => ticks.map((v) => number(v)) }],
        series: [{}, ...series],
      },
      [samples.map((s) => s.step), ...kinds.map(([kind]) => samples.map((s) => (s.kind === kind ? Math.min(s.ms, top) : null)))],
      holder.current,
    );
    return () => plot.destroy();
  }, [width, scheme, study]);
  if (samples.length < 2) return null;
  return (
    <Section
      id="steps"
      title="Step by step"
      aside={
        <ul class="legend">
          {kinds.map(([kind, hue]) => (
            <li>
              <span class={`dot hue-${hue}`} aria-hidden="true" /> {kind === "warmup" ? "warm-up" : kind}
            </li>
          ))}
          {far > 0 && <li>{`${far} beyond ${ms(top)}, drawn at the edge`}</li>}
        </ul>
      }
    >
      <div class="plot" ref={holder} role="img" aria-label={`Wall time of ${samples.length} steps`} />
    </Section>
  );
}

function useWidth2(ref, there) {
  return there ? useWidth(ref) : 0;
}
