// Small parts that every section is made of: a section, a sortable heading, an inline bar, a tooltip.
import { useEffect, useState } from "preact/hooks";

export function Section({ id, title, aside, children }) {
  return (
    <section id={id} aria-labelledby={`${id}-title`}>
      <header class="section-head">
        <h2 id={`${id}-title`}>{title}</h2>
        {aside && <div class="aside">{aside}</div>}
      </header>
      {children}
    </section>
  );
}

export function SortHead({ column, sort, onSort, children, text }) {
  const mine = sort.key === column;
  const state = mine ? (sort.down ? "descending" : "ascending") : "none";
  return (
    <th scope="col" aria-sort={state} class={text ? "text" : "figure"}>
      <button type="button" onClick={() => onSort({ key: column, down: mine ? !sort.down : !text })}>
        {children}
        <span class="arrow" aria-hidden="true">
          {mine ? (sort.down ? "↓" : "↑") : ""}
        </span>
      </button>
    </th>
  );
}

export function compare(key, down) {
  return (a, b) => {
    const [x, y] = [a[key], b[key]];
    if (x == null || y == null) return x == null ? (y == null ? 0 : 1) : -1;
    const order = typeof x === "string" ? x.localeCompare(y) : x - y;
    return down ? -order : order;
  };
}

export const ShareBar = ({ share, hue }) => (
  <span class="share-bar" aria-hidden="true">
    <span class={`fill hue-${hue ?? "layer"}`} style={{ width: `${Math.min(Math.max(share || 0, 0), 1) * 100}%` }} />
  </span>
);

export function Tip({ tip }) {
  if (!tip) return null;
  const right = tip.x > window.innerWidth - 300;
  const place = right ? { right: `${window.innerWidth - tip.x + 12}px` } : { left: `${tip.x + 14}px` };
  const low = tip.y > window.innerHeight - 170;
  const height = low ? { bottom: `${window.innerHeight - tip.y + 12}px` } : { top: `${tip.y + 14}px` };
  return (
    <div class="tip" role="status" style={{ ...place, ...height }}>
      <strong>{tip.title}</strong>
      {tip.lines.map((line) => (
        <div>{line}</div>
      ))}
    </div>
  );
}

// A sentence of analysis; what it sets in backquotes is a name.
export function Prose({ text }) {
  const parts = String(text).split("`");
  if (parts.length % 2 === 0) return text;
  return parts.map((part, i) => (i % 2 ? <code>{part}</code> : part));
}

export function Choice({ label, value, options, onChange }) {
  return (
    <div class="choice" role="group" aria-label={label}>
      {options.map(([key, text]) => (
        <button type="button" aria-pressed={value === key} onClick={() => onChange(key)}>
          {text}
        </button>
      ))}
    </div>
  );
}

// A figure that changes when the colour scheme does: canvases must be drawn anew.
export function useScheme() {
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const media = window.matchMedia("(prefers-color-scheme: dark)");
    const changed = () => setTurn((n) => n + 1);
    media.addEventListener("change", changed);
    return () => media.removeEventListener("change", changed);
  }, []);
  return turn;
}

export function useWidth(ref) {
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const seen = new ResizeObserver((entries) => setWidth(Math.floor(entries[0].contentRect.width)));
    seen.observe(ref.current);
    return () => seen.disconnect();
  }, []);
  return width;
}
