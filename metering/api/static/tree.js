// Documents that no view knows by heart: names and values, and lists of like things as tables.

import { h } from "./dom.js";
import { grouped, sized, whole } from "./figures.js";
import { badge } from "./messages.js";
import { batchLink, facts, table } from "./table.js";
import { readable } from "./times.js";

const MOMENT = /^\d{4}-\d{2}-\d{2}T[\d:.]+Z$/;
const COPIED = /(_id|key|sha256|hash|file|commit|name|reason)$/;

/** A document as names and values. */
export function tree(value, depth) {
  if (value === null || value === undefined || value === "") return h("span", { class: "soft" }, "\u2013");
  if (Array.isArray(value)) return list(value, depth);
  if (typeof value !== "object") return leaf(value);
  const entries = Object.entries(value);
  if (!entries.length) return h("span", { class: "soft" }, "none");
  return facts(entries.map(([name, each]) => [name.replaceAll("_", " "), member(name, each, depth + 1)]));
}

function member(name, value, depth) {
  if (value !== null && /(^|_)bytes$/.test(name) && /^-?\d+$/.test(value)) {
    return h("span", {}, `${grouped(value)} (${sized(whole(value))})`);
  }
  if (name === "batch_id" && typeof value === "string") return batchLink(value);
  if (typeof value === "number") return grouped(value);
  return tree(value, depth);
}

function list(values, depth) {
  if (!values.length) return h("span", { class: "soft" }, "none");
  if (values.every((each) => each !== null && typeof each === "object" && !Array.isArray(each))) {
    const flat = values.every((each) => Object.values(each).every((cell) => cell === null || typeof cell !== "object"));
    if (flat) return table(columnsOf(values), values, { caption: "Parts" });
  }
  return h(
    "ul",
    { class: "plain" },
    values.map((each) => h("li", {}, tree(each, depth + 1))),
  );
}

/** Columns for rows that nobody described: their names, kinds that follow from their values, and cells by name. */
export function columnsOf(rows, cells = {}) {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  return names.map((name) => ({
    name,
    title: name.replaceAll("_", " "),
    kind: kindOf(
      name,
      rows.map((row) => row[name]),
    ),
    ...(cells[name] ? { cell: cells[name] } : {}),
  }));
}

function kindOf(name, values) {
  const known = values.filter((value) => value !== null && value !== undefined && value !== "");
  if (!known.length) return "text";
  if (name === "bytes" && known.length === values.length) return "bytes";
  if (known.every((value) => typeof value === "boolean")) return "flag";
  if (known.every((value) => typeof value === "number")) return "integer";
  if (known.every((value) => MOMENT.test(value))) return "time";
  if (known.some((value) => String(value).includes(" "))) return "prose";
  return COPIED.test(name) ? "mono" : "text";
}

function leaf(value) {
  if (typeof value === "boolean") return badge(value ? "yes" : "no", value ? "good" : "");
  const text = String(value);
  if (MOMENT.test(text)) return `${readable(text)} UTC`;
  return /^[\w.:/=@+-]{12,}$/.test(text) ? h("code", {}, text) : text;
}
