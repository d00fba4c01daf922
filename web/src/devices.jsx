// What devices wait for: how ranks compare, collectives, the critical path.
import { useState } from "preact/hooks";
import { bytes, count, ms, number, percent, words } from "./format.js";
import { Prose, Section, SortHead, compare } from "./parts.jsx";

const PATH_HUES = { device: "forward", launch: "data", host: "transfer", gap: "idle", synchronization: "communication" };

export function rankSentences(study) {
  const report = study.rank_report;
  if (!report) return [];
  const every = [...report.sentences, ...report.stragglers.map((x) => x.sentence), ...report.odd.map((x) => x.sentence)];
  return [...new Set(every.filter(Boolean))];
}

export function Communication({ study }) {
  const [sort, setSort] = useState({ key: "exposed_ms", down: true });
  const [limit, setLimit] = useState(16);
  if (!study.communication.length) return null;
  const rows = [...study.communication].sort(compare(sort.key, sort.down));
  const columns = [
    ["rank", "rank", false, (v) => v ?? "–"],
    ["operation", "operation", true, (v) => (v == null ? "not known" : words(v))],
    ["group", "group", true, (v) => v ?? "–"],
    ["count", "calls", false, (v) => number(v, 0)],
    ["device_ms", "on the device", false, (v) => ms(v)],
    ["exposed_ms", "exposed", false, (v) => ms(v)],
    ["bytes", "bytes", false, bytes],
    ["bus_bytes_per_s", "bus bandwidth", false, (v) => (v == null ? "–" : `${count(v)}B/s`)],
  ];
  return (
    <Section id="communication" title="Communication" aside="over the whole trace; exposed is what no compute covers">
      <div class="scroll">
        <table class="sheet">
          <thead>
            <tr>
              {columns.map(([key, name, text]) => (
                <SortHead column={key} text={text} sort={sort} onSort={setSort}>
                  {name}
                </SortHead>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.slice(0, limit).map((row) => (
              <tr>
                {columns.map(([key, , text, show]) => (
                  <td class={text ? "text" : "figure"}>{show(row[key])}</td>
                ))}
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

export function CriticalPath({ study }) {
  const path = study.critical_path;
  if (!path) return null;
  const lists = [
    ["kind of work", path.op_classes],
    ["phase", path.phases],
    ["layer", path.layers],
    ["op", path.ops],
    ["rank", path.ranks],
  ].filter(([, parts]) => parts.length);
  return (
    <Section id="critical-path" title="Critical path" aside={`${ms(path.path_ms)} of ${ms(path.window_ms)}${path.exact ? "" : "; some edges are only possible"}`}>
      <p class="said">
        <Prose text={path.sentence} />
      </p>
      <div class="phase-bar low" aria-hidden="true">
        {path.parts.map((part) => (
          <span class={`hue-${PATH_HUES[part.what] ?? "other"}`} style={{ flexGrow: Math.max(part.share || 0, 0), flexBasis: 0 }} />
        ))}
      </div>
      <ul class="legend">
        {path.parts.map((part) => (
          <li>
            <span class={`dot hue-${PATH_HUES[part.what] ?? "other"}`} aria-hidden="true" /> {part.what} <b>{percent(part.share)}</b>
            {part.low != null && part.high != null ? ` (${percent(part.low)} to ${percent(part.high)})` : ""}
          </li>
        ))}
      </ul>
      <div class="columns">
        {lists.map(([name, parts]) => (
          <div>
            <h3>by {name}</h3>
            <dl class="pairs">
              {parts.slice(0, 8).map((part) => (
                <div>
                  <dt>{words(part.what)}</dt>
                  <dd class="figure">
                    {ms(part.ms)} <span class="quiet">{percent(part.share)}</span>
                  </dd>
                </div>
              ))}
            </dl>
          </div>
        ))}
      </div>
      {path.notes.map((note) => (
        <p class="quiet">{note}</p>
      ))}
    </Section>
  );
}
