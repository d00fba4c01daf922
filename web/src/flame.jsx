// A canvas of boxes: used for the icicle and for the timeline. Click or Enter zooms, Escape goes back.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Tip, useScheme, useWidth } from "./parts.jsx";

const FONT = '12px ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

function colours(element) {
  const style = getComputedStyle(element);
  const cache = new Map();
  return (hue) => {
    if (!cache.has(hue)) cache.set(hue, style.getPropertyValue(`--${hue}`).trim() || style.getPropertyValue("--other").trim());
    return cache.get(hue);
  };
}

function fitted(context, text, room) {
  if (room < 22) return "";
  if (context.measureText(text).width <= room) return text;
  const cells = Math.floor(room / 6.6) - 1;
  return cells < 3 ? "" : `${text.slice(0, cells)}…`;
}

function draw(canvas, boxes, view, width, height, rowHeight, chosen) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.clearRect(0, 0, width, height);
  context.font = FONT;
  context.textBaseline = "middle";
  const colour = colours(canvas);
  const scale = width / (view[1] - view[0]);
  for (const box of boxes) {
    const left = Math.max((box.x0 - view[0]) * scale, 0);
    const right = Math.min((box.x1 - view[0]) * scale, width);
    if (right - left < 0.3) continue;
    const top = box.row * rowHeight;
    context.fillStyle = colour(box.hue);
    context.fillRect(left, top, Math.max(right - left - (right - left > 3 ? 1 : 0), 0.5), rowHeight - 1);
    const text = fitted(context, box.label, right - left - 10);
    if (text) {
      context.fillStyle = colour(box.ink ?? "on-hue");
      context.fillText(text, left + 5, top + rowHeight / 2);
    }
    if (box === chosen) {
      context.strokeStyle = colour("ink");
      context.lineWidth = 2;
      context.strokeRect(left + 1, top + 1, Math.max(right - left - 3, 1), rowHeight - 3);
    }
  }
}

// `boxes`: [{x0, x1, row, label, hue, ink, tip: [lines], parent}]; the whole is `span` wide.
export function Flame({ boxes, span, rows, rowHeight = 24, label, gutter }) {
  const holder = useRef(null);
  const canvas = useRef(null);
  const width = useWidth(holder);
  const scheme = useScheme();
  const [zoom, setZoom] = useState(null);
  const [tip, setTip] = useState(null);
  const [chosen, setChosen] = useState(null);
  const height = Math.max(rows, 1) * rowHeight;
  const view = zoom ? [zoom.x0, zoom.x1] : [0, span];
  const drawn = useMemo(() => boxes.filter((box) => box.x1 > view[0] && box.x0 < view[1]), [boxes, view[0], view[1]]);

  useEffect(() => setZoom(null), [boxes]);
  useEffect(() => {
    if (width > 0) draw(canvas.current, drawn, view, width, height, rowHeight, chosen);
  }, [drawn, width, height, scheme, chosen]);

  const boxAt = (event) => {
    const rect = canvas.current.getBoundingClientRect();
    const at = view[0] + ((event.clientX - rect.left) / rect.width) * (view[1] - view[0]);
    const row = (event.clientY - rect.top) / rowHeight;
    return drawn.find((box) => box.row <= row && row < box.row + 1 && box.x0 <= at && at < box.x1);
  };
  const onMove = (event) => {
    const box = boxAt(event);
    setTip(box ? { x: event.clientX, y: event.clientY, title: box.title ?? box.label, lines: box.tip } : null);
  };
  const zoomTo = (box) => setZoom(!box || (zoom && box.x0 === zoom.x0 && box.x1 === zoom.x1) || box.x1 - box.x0 >= span ? null : { x0: box.x0, x1: box.x1, title: box.title ?? box.label });
  const onKey = (event) => {
    const now = chosen && drawn.includes(chosen) ? chosen : null;
    const same = (row) => drawn.filter((box) => box.row === row).sort((a, b) => a.x0 - b.x0);
    const near = (row) => drawn.filter((box) => Math.abs(box.row - row) < 0.5).find((box) => !now || (box.x1 > now.x0 && box.x0 < now.x1));
    const beside = (step) => {
      const line = same(now.row);
      return line[line.indexOf(now) + step];
    };
    let next;
    if (event.key === "Escape") setZoom(null);
    else if (event.key === "Enter" && now) zoomTo(now);
    else if (event.key === "ArrowDown") next = now ? near(now.row + 1) : drawn[0];
    else if (event.key === "ArrowUp" && now) next = near(now.row - 1);
    else if (event.key === "ArrowRight") next = now ? beside(1) : drawn[0];
    else if (event.key === "ArrowLeft" && now) next = beside(-1);
    else return;
    event.preventDefault();
    if (next) setChosen(next);
  };
  return (
    <div class="flame">
      <div class="zoomed">
        {zoom ? (
          <>
            <span class="quiet">in</span> {zoom.title}{" "}
            <button type="button" class="link" onClick={() => setZoom(null)}>
              Whole
            </button>
          </>
        ) : (
          <span class="quiet">Click a box to look inside.</span>
        )}
      </div>
      <div class="flame-row">
        {gutter && (
          <div class="gutter" aria-hidden="true">
            {gutter.map((lane) => (
              <div style={{ top: `${lane.row * rowHeight}px` }} title={lane.name}>
                {lane.name}
              </div>
            ))}
          </div>
        )}
        <div class="canvas-holder" ref={holder}>
          <canvas
            ref={canvas}
            style={{ width: "100%", height: `${height}px` }}
            role="img"
            aria-label={label}
            tabIndex={0}
            onKeyDown={onKey}
            onMouseMove={onMove}
            onMouseLeave={() => setTip(null)}
            onClick={(event) => zoomTo(boxAt(event))}
          />
        </div>
      </div>
      {chosen && (
        <p class="quiet" aria-live="polite">
          {chosen.title ?? chosen.label}: {chosen.tip.join(", ")}
        </p>
      )}
      <Tip tip={tip} />
    </div>
  );
}
