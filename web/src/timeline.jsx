// One step of the trace, lane by lane: phases, layers, ops and device work in order of time.
import { useMemo } from "preact/hooks";
import { Flame } from "./flame.jsx";
import { ms, words } from "./format.js";
import { Section } from "./parts.jsx";

const HUES = { phase: null, layer: "layer-strong", op: "op", kernel: "forward", memcpy: "transfer", memset: "checkpoint", collective: "communication", annotation: "layer" };
const DEEPEST = 9;

function boxesOf(timeline) {
  const boxes = [];
  const gutter = [];
  let row = 0;
  for (const lane of timeline.lanes) {
    gutter.push({ name: lane.name, row });
    let deepest = 0;
    for (const [start, duration, depth, name, kind] of lane.bars) {
      if (depth >= DEEPEST) continue;
      deepest = Math.max(deepest, depth);
      const label = timeline.names[name];
      const hue = kind === "phase" ? label : HUES[kind] ?? "other";
      boxes.push({ x0: start, x1: start + duration, row: row + depth, label, hue, ink: hue.startsWith("layer") || hue === "op" ? "ink" : "on-hue", tip: [`${ms(duration)} at ${ms(start)}`, words(kind)] });
    }
    row += deepest + 1.4;
  }
  const shift = (x) => Math.round(x * 10) / 10;
  return { boxes: boxes.map((box) => ({ ...box, row: shift(box.row) })), gutter, rows: row, span: timeline.span_ms || 1 };
}

export function Timeline({ timeline }) {
  const picture = useMemo(() => timeline && boxesOf(timeline), [timeline]);
  if (!picture) return null;
  const title = timeline.step >= 0 ? `Step ${timeline.step} in order of time` : "The trace in order of time";
  return (
    <Section id="timeline" title={title} aside={ms(timeline.span_ms)}>
      <Flame {...picture} rowHeight={20} label="Timeline of one step; longpole view --perfetto shows all of it." />
    </Section>
  );
}
