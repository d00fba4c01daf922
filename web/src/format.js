// Figures as text, by the same rules as longpole/report/figures.py. What is not known is a dash.
export const DASH = "–";
export const known = (value) => typeof value === "number" && Number.isFinite(value);

const spaced = (value, places) => value.toFixed(places).replace(/\B(?=(\d{3})+(?!\d))(?<!\.\d*)/g, "\u2009");
const places3 = (value) => {
  const size = Math.abs(value);
  return size >= 99.95 ? 0 : size >= 9.995 ? 1 : size >= 0.9995 ? 2 : 3;
};

export function decimalsFor(whole) {
  const size = known(whole) ? Math.abs(whole) : 0;
  return size >= 500 ? 0 : size >= 50 ? 1 : size >= 5 ? 2 : 3;
}

export function number(value, places) {
  if (!known(value)) return DASH;
  if (value === 0 && places === undefined) return "0";
  if (Math.abs(value) >= 1e15) return value.toPrecision(2);
  const digits = places ?? places3(value);
  // What is more than nothing never looks like nothing.
  if (Math.abs(value) < 0.5 * 10 ** -digits) return value > 0 ? `<${(10 ** -digits).toFixed(digits)}` : (0).toFixed(digits);
  return spaced(value, digits);
}

export const ms = (value, places) => (known(value) ? `${number(value, places)} ms` : DASH);
export const percent = (share) => (known(share) ? `${number(share * 100, 1)} %` : DASH);

function scaled(value, units, base) {
  if (!known(value)) return DASH;
  let size = value;
  let unit = 0;
  while (Math.abs(size) >= base * 0.9995 && unit < units.length - 1) {
    size /= base;
    unit += 1;
  }
  const text = unit === 0 && Number.isInteger(size) ? String(size) : number(size);
  return `${text} ${units[unit]}`.trim();
}

export const bytes = (value) => scaled(value, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"], 1024);
export const count = (value) => scaled(value, ["", "k", "M", "G", "T", "P", "E"], 1000);
export const words = (name) => String(name).replaceAll("_", " ");
