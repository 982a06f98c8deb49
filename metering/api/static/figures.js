// Figures as exact integers. What is printed never goes through a floating-point number; what is drawn may.

const WHOLE = /^-?\d+$/;
const DECIMAL = /^(-?)(\d+)(?:\.(\d+))?$/;
const SIZES = ["bytes", "KB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const KB = 1024n;

/** A whole number of any size from its decimal digits. Anything else is a fault of the answer, not a zero. */
export function whole(value) {
  const text = String(value);
  if (!WHOLE.test(text)) throw new TypeError(`${text} is not a whole number`);
  return BigInt(text);
}

/** Digits in groups of three; the sign and the decimals stay as they are. */
export function grouped(value) {
  const [, sign, digits, decimals] = String(value).match(DECIMAL) ?? [];
  if (digits === undefined) return String(value);
  const text = digits.replace(/\B(?=(\d{3})+$)/g, ",");
  return `${sign === "-" ? "\u2212" : ""}${text}${decimals === undefined ? "" : `.${decimals}`}`;
}

/** A fraction as a decimal text, rounded half away from zero. */
export function ratio(above, below, decimals) {
  const scale = 10n ** BigInt(decimals);
  const size = above < 0n ? -above : above;
  const scaled = (2n * size * scale + below) / (2n * below);
  const digits = String(scaled).padStart(decimals + 1, "0");
  const text = decimals ? `${digits.slice(0, -decimals)}.${digits.slice(-decimals)}` : digits;
  return above < 0n && scaled > 0n ? `-${text}` : text;
}

/** The largest unit in which a size is at least 1: its name, and its bytes. */
export function unitOfSize(bytes) {
  const size = bytes < 0n ? -bytes : bytes;
  let per = 1n;
  let at = 0;
  while (at + 1 < SIZES.length && (2n * size + per) / (2n * per) >= KB) [per, at] = [per * KB, at + 1];
  return { per, name: SIZES[at] };
}

/** Bytes in the unit that fits, with three or four digits, as the command line writes them: `19.4 PB`. */
export function sized(bytes) {
  if (bytes === 1n) return "1 byte";
  const { per, name } = unitOfSize(bytes);
  const size = bytes < 0n ? -bytes : bytes;
  const places = per === 1n ? 0 : [2, 1, 0].find((each) => !each || ratio(size, per, each).length < 5);
  return `${bytes < 0n ? "\u2212" : ""}${grouped(ratio(size, per, places))} ${name}`;
}

/** Share of a whole in percent. */
export function percent(part, all) {
  if (all === 0n) return "";
  const text = ratio(part * 100n, all, 1);
  return part > 0n && text === "0.0" ? "< 0.1 %" : `${text} %`;
}

/** What became of a figure: `+12.3 %`, `new`, or nothing if there was and is none. */
export function change(now, before) {
  if (before <= 0n) return now > 0n ? "new" : "";
  const text = ratio((now - before) * 100n, before, 1);
  return `${now >= before ? "+" : ""}${grouped(text)} %`;
}

/** A decimal text as a whole number of its 10^-places. More places than that would be lost, so they are refused. */
export function scaled(text, places = 10) {
  const [, sign, digits, decimals = ""] = String(text).match(DECIMAL) ?? [];
  if (digits === undefined || /[1-9]/.test(decimals.slice(places)))
    throw new TypeError(`${text} is not such a decimal`);
  const size = BigInt(digits + decimals.slice(0, places).padEnd(places, "0"));
  return sign === "-" ? -size : size;
}

/** The decimal text of a whole number of 10^-places. */
export function unscaled(value, places = 10) {
  return ratio(value, 10n ** BigInt(places), places);
}

/** A decimal text in cents, rounded for the eye; what is not nothing never looks like nothing. */
export function cents(text) {
  const places = (String(text).split(".")[1] ?? "").length;
  const value = scaled(text, places);
  const found = ratio(value, 10n ** BigInt(places), 2);
  return value > 0n && found === "0.00" ? "< 0.01" : grouped(found);
}

export function sum(values) {
  return values.reduce((total, each) => total + each, 0n);
}

/** Compares whole numbers, the largest first. */
export function largestFirst(one, other) {
  return one < other ? 1 : one > other ? -1 : 0;
}

// A text of JSON, or an integer that a floating-point number may not hold.
const LONG = /"(?:[^"\\]|\\.)*"|(?<![\d.eE+-])-?\d{16,}(?![\d.eE])/g;

/** JSON whose long integers become texts of their digits: parsed as numbers they would change. */
export function exactJson(text) {
  return JSON.parse(text.replace(LONG, (found) => (found.startsWith('"') ? found : `"${found}"`)));
}
