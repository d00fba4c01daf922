// Ranks: how busy each device was, its steps as a heat map, and why it was idle.
import { useState } from "preact/hooks";
import { known, ms, number, percent } from "./format.js";
import { rankSentences } from "./devices.jsx";
import { Prose, Section, SortHead, compare } from "./parts.jsx";

const PARTS = [
  ["busy", "busy", "forward"],
  ["idle", "idle", "communication"],
  ["compute", "compute", "forward"],
  ["communication", "communication", "data"],
  ["exposed_communication", "exposed", "communication"],
  ["memory_copy", "copies", "transfer"],
];

export function Ranks({ study }) {
  const [sort, setSort] = useState({ key: "rank", down: false });
  const [chosen, setChosen] = useState(null);
  const [limit, setLimit] = useState(24);
  if (!study.ranks.length) return null;
  const rows = study.ranks
    .map((rank, index) => ({ index, rank: rank.rank, device: rank.device, note: rank.note, span: rank.timeline?.span_ms, ...Object.fromEntries(PARTS.map(([key]) => [key, rank.timeline?.[key]?.share])) }))
    .sort(compare(sort.key, sort.down));
  const head = (key, name) => (
    <SortHead column={key} sort={sort} onSort={setSort}>
      {name}
    </SortHead>
  );
  return (
    <Section id="ranks" title={study.ranks.length > 1 ? `${study.ranks.length} ranks` : "The device"} aside="shares of the device's own span; a row shows its gaps">
      {rankSentences(study).length > 0 && (
        <ul class="said">
          {rankSentences(study).map((sentence) => (
            <li>
              <Prose text={sentence} />
            </li>
          ))}
        </ul>
      )}
      <div class="scroll">
        <table class="sheet">
          <thead>
            <tr>
              {head("rank", "rank")}
              <SortHead column="device" text sort={sort} onSort={setSort}>
                device
              </SortHead>
              {head("span", "span")}
              {PARTS.map(([key, name]) => head(key, name))}
            </tr>
          </thead>
          <tbody>
            {rows.slice(0, limit).map((row) => (
              <tr class={`pick ${chosen === row.index ? "chosen" : ""}`} tabIndex={0} onClick={() => setChosen(chosen === row.index ? null : row.index)} onKeyDown={(e) => e.key === "Enter" && setChosen(chosen === row.index ? null : row.index)}>
                <th scope="row" class="figure">
                  {row.rank ?? "–"}
                </th>
                <td class="text">
                  {row.device ?? "–"} {row.note && <span class="quiet">{row.note}</span>}
                </td>
                <td class="figure">{ms(row.span)}</td>
                {PARTS.map(([key, , hue]) => (
                  <td class={`figure heat hue-text-${hue}`} style={known(row[key]) ? { "--heat": `${Math.min(Math.max(row[key], 0), 1) * 45}%` } : undefined}>
                    {percent(row[key])}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {rows.length > limit && (
        <p>
          <button type="button" class="plain" onClick={() => setLimit(Infinity)}>
            Show all {number(rows.length, 0)} ranks
          </button>
        </p>
      )}
      <Heat ranks={study.ranks} />
      <Gaps ranks={chosen === null ? study.ranks : [study.ranks[chosen]]} all={chosen === null} />
    </Section>
  );
}

function Heat({ ranks }) {
  const rows = ranks.filter((rank) => rank.steps.length);
  if (!rows.length) return null;
  const values = rows.flatMap((rank) => rank.steps.map((s) => s.ms)).filter(known);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const heat = (value) => `${8 + (high > low ? (value - low) / (high - low) : 0) * 80}%`;
  return (
    <div class={`heat-map scroll ${rows.length > 24 ? "dense" : ""}`}>
      <h3>
        Steps of each rank <span class="quiet">{`${ms(low)} to ${ms(high)}`}</span>
      </h3>
      {rows.map((rank, i) => (
        <div class="heat-row">
          <span class="quiet">{rows.length <= 24 || i % 8 === 0 ? rank.rank ?? "–" : ""}</span>
          {rank.steps.map((s) => (
            <span class="cell" style={known(s.ms) ? { "--heat": heat(s.ms) } : undefined} title={`rank ${rank.rank ?? "–"}, step ${s.step}: ${ms(s.ms)}`} />
          ))}
        </div>
      ))}
    </div>
  );
}

function Gaps({ ranks, all }) {
  const merged = new Map();
  const having = ranks.filter((rank) => rank.gaps.length);
  for (const rank of having) {
    for (const gap of rank.gaps) {
      const row = merged.get(gap.cause) ?? { cause: gap.cause, ms: 0, share: 0, count: 0, evidence: "", most: -1 };
      row.ms += (gap.ms || 0) / having.length;
      row.share += (gap.share || 0) / having.length;
      row.count += gap.count;
      if ((gap.ms || 0) > row.most) Object.assign(row, { most: gap.ms || 0, evidence: gap.evidence });
      merged.set(gap.cause, row);
    }
  }
  const rows = [...merged.values()].sort((a, b) => b.ms - a.ms);
  if (!rows.length) return null;
  const whose = all ? (ranks.length > 1 ? "mean of the ranks" : "") : `rank ${ranks[0].rank ?? "–"}`;
  return (
    <div class="scroll">
      <h3>
        Why the device was idle <span class="quiet">{whose}</span>
      </h3>
      <table class="sheet gaps">
        <tbody>
          {rows.map((row) => (
            <tr>
              <th scope="row" class="text">
                {row.cause}
              </th>
              <td class="figure">{ms(row.ms)}</td>
              <td class="figure">{percent(row.share)}</td>
              <td class="figure">{`${number(row.count, 0)} gaps`}</td>
              <td class="text quiet">{row.evidence}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
