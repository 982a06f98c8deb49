// Trace: a line down to its hours, batches and files, with three sums that must be equal; and the story of a batch.

import { ask } from "../api.js";
import { go, h } from "../dom.js";
import { GB_IN_WORDS, gigabytes, grouped, whole } from "../figures.js";
import { complain, field } from "../form.js";
import { badge, nothing } from "../messages.js";
import { FILTERS, rangeOf, written } from "../state.js";
import { batchLink, byteTile, facts, table } from "../table.js";
import { HOUR_S, readable, rfc3339, short } from "../times.js";

const BYTES = [
  { name: "bytes", title: "bytes", kind: "bytes" },
  { name: "bytes", title: GB_IN_WORDS, kind: "gb" },
];
const SUMS = {
  usage: "Usage table, which reports read",
  rows: "Rows in the lake and in staging",
  markers: "Markers, what each batch was booked with",
};

export function trace({ state, now_s, navigate }) {
  const range = rangeOf({ ...state, range: state.range || "24h" }, now_s);
  const form = traceForm(state, range, navigate);
  const page = { title: "Trace", subtitle: "A figure down to the batches that it is the sum of", form };
  if (!state.account || !state.usage_type || Object.keys(range.problems).length) return { ...page, load: null, hint: howTo() };
  const asked = { from: rfc3339(range.from_s), to: rfc3339(range.to_s) };
  for (const name of FILTERS) if (state[name]) asked[name] = state[name];
  return {
    ...page,
    async load(signal) {
      const answer = await ask("trace", asked, signal);
      return { answer, parts: traced(answer), twins: [{ label: "Trace", path: "trace", asked, files: false }] };
    },
  };
}

function howTo() {
  return h(
    "div",
    { class: "card nothing" },
    h("p", { class: "nothing-title" }, "Name an account and a usage type"),
    h("p", {}, "Then you see which batches their bytes came in, and whether usage, rows and markers agree to the byte. From the usage page, filter by one account and one usage type, and follow the link above the table."),
  );
}

function traceForm(state, range, navigate) {
  const fields = {};
  const times = ["from", "to"].map((name) => {
    const given = state[name] || (Number.isFinite(range[`${name}_s`]) ? short(range[`${name}_s`]) : "");
    return field(fields, name, name === "from" ? "From (UTC)" : "Until (UTC, not included)", given, "2026-11-24T13:00Z", range.problems[name]);
  });
  const names = { account: ["Account", "12 digits"], usage_type: ["Usage type", "DataTransfer-Out-Bytes"], service: ["Service", "all"], from_location: ["From", "all"], to_location: ["To", "all"] };
  const filters = Object.entries(names).map(([name, [label, placeholder]]) => field(fields, name, label, state[name] || "", placeholder));
  function submit(event) {
    event.preventDefault();
    const next = { view: "trace" };
    for (const name of Object.keys(fields)) next[name] = fields[name].value.trim();
    complain(fields.account, /^\d{12}$/.test(next.account) ? "" : "Name one account: 12 digits.");
    complain(fields.usage_type, next.usage_type ? "" : "Name one usage type.");
    if (!form.querySelector("[aria-invalid]")) navigate(next);
  }
  const form = h("form", { class: "card question", onsubmit: submit, novalidate: true }, h("div", { class: "fields" }, filters, times), h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Trace")));
  return form;
}

function traced(answer) {
  const batches = answer.batches ?? answer.rows ?? [];
  if (!batches.length && whole(answer.line?.bytes ?? "0") === 0n) return [nothing("Nothing was metered on this line in this range.")];
  return [
    verdict(answer),
    h("section", { class: "card", "aria-labelledby": "batches" }, h("h2", { id: "batches" }, `${grouped(batches.length)} ${batches.length === 1 ? "batch" : "batches"}`), table(batchColumns(batches), batches, { caption: "Batches of this line", empty: "No batch is left: markers end after 50 days." })),
    hours(answer.hours ?? []),
  ];
}

function verdict(answer) {
  const sums = Object.entries(answer.sums ?? {});
  return h(
    "section",
    { class: `card verdict ${answer.equal ? "good" : "bad"}`, "aria-labelledby": "verdict" },
    h("h2", { id: "verdict" }, answer.equal ? "Equal to the byte" : "Not equal", " ", badge(answer.equal ? "proved" : "look here", answer.equal ? "good" : "bad")),
    h(
      "div",
      { class: "tiles", id: "sums", "data-equal": String(Boolean(answer.equal)) },
      sums.map(([name, value]) => (value === null ? h("div", { class: "tile" }, h("p", { class: "tile-name" }, SUMS[name] ?? name), h("p", { class: "tile-exact" }, "not known any more")) : byteTile(SUMS[name] ?? name, value, { "data-sum": name, "data-bytes": String(value) }))),
    ),
    answer.equal ? null : h("p", {}, "Two of these were counted apart and differ. ", h("code", {}, "metering reconcile --deep"), " finds the batches; the runbook reconciliation-different says what to do."),
  );
}

function batchColumns(batches) {
  const known = new Set(batches.flatMap((each) => Object.keys(each)));
  const more = [
    { name: "source_id", title: "source", kind: "mono" },
    { name: "hour", title: "hour (UTC)", kind: "time" },
    { name: "state", title: "marker", kind: "text" },
  ].filter(({ name }) => known.has(name));
  return [{ name: "batch_id", title: "batch", kind: "mono", cell: (row) => batchLink(row.batch_id) }, ...more, ...BYTES, ...(known.has("records") ? [{ name: "records", title: "records", kind: "integer" }] : [])];
}

function hours(rows) {
  if (!rows.length) return null;
  const first = { name: "hour", title: "hour (UTC)", kind: "time", cell: (row) => go(written({ view: "hour", extra: { hour: row.hour } }), { class: "id" }, readable(row.hour)) };
  const keys = Object.keys(rows[0]).filter((name) => !["hour", "bytes"].includes(name) && typeof rows[0][name] !== "object");
  const more = keys.map((name) => ({ name, title: name.replaceAll("_", " "), kind: name === "records" ? "integer" : typeof rows[0][name] === "boolean" ? "flag" : "text" }));
  return h("section", { class: "card", "aria-labelledby": "hours" }, h("h2", { id: "hours" }, "Hours"), table([first, ...BYTES, ...more], rows, { caption: "Hours of this line" }));
}

/** One batch: what became of it, and where it is. */
export function batch({ state, navigate }) {
  const id = state.extra.id ?? "";
  const fields = {};
  const form = h(
    "form",
    {
      class: "card question",
      novalidate: true,
      onsubmit: (event) => {
        event.preventDefault();
        navigate({ view: "batch", extra: { id: fields.id.value.trim() } });
      },
    },
    h("div", { class: "fields" }, field(fields, "id", "Batch", id, "edge-7f3a-000184")),
    h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Show")),
  );
  const page = { title: "Batch", subtitle: "The whole story of one batch", form };
  if (!id) return { ...page, load: null };
  const asked = { id };
  return {
    ...page,
    async load(signal) {
      const answer = await ask("batches", asked, signal);
      return { answer, parts: [story(answer)], twins: [{ label: "Batch", path: "batches", asked, files: false }] };
    },
  };
}

function story(answer) {
  return h("section", { class: "card", "aria-labelledby": "story" }, h("h2", { id: "story" }, "What became of it"), tree(answer, 0));
}

/** A document as names and values, lists of like things as tables. */
export function tree(value, depth) {
  if (value === null || value === undefined || value === "") return h("span", { class: "soft" }, "\u2013");
  if (Array.isArray(value)) return list(value, depth);
  if (typeof value !== "object") return leaf(value);
  const entries = Object.entries(value);
  if (!entries.length) return h("span", { class: "soft" }, "none");
  return facts(entries.map(([name, each]) => [name.replaceAll("_", " "), named(name, each, depth + 1)]));
}

function named(name, value, depth) {
  if (name === "bytes") return h("span", {}, `${grouped(value)} (${gigabytes(whole(value))} GB)`);
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
  return h("ul", { class: "plain" }, values.map((each) => h("li", {}, tree(each, depth + 1))));
}

/** Columns for rows that nobody described: their names, and kinds that follow from their values. */
export function columnsOf(rows) {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  return names.map((name) => ({ name, title: name.replaceAll("_", " "), kind: kindOf(name, rows.map((row) => row[name])) }));
}

function kindOf(name, values) {
  const known = values.filter((value) => value !== null && value !== undefined && value !== "");
  if (name === "bytes" && known.length === values.length) return "bytes";
  if (known.length && known.every((value) => typeof value === "boolean")) return "flag";
  if (known.length && known.every((value) => typeof value === "number")) return "integer";
  if (known.length && known.every((value) => /^\d{4}-\d{2}-\d{2}T.*Z$/.test(value))) return "time";
  return /(_id|key|sha256|hash|file|commit|name)$/.test(name) ? "mono" : "text";
}

function leaf(value) {
  if (typeof value === "boolean") return badge(value ? "yes" : "no", value ? "good" : "");
  const text = String(value);
  if (/^\d{4}-\d{2}-\d{2}T[\d:.]+Z$/.test(text)) return `${readable(text)} UTC`;
  return /^[\w.:/=@+-]{12,}$/.test(text) ? h("code", {}, text) : text;
}

/** One hour: whether markers, usage and rows agree. */
export function hour({ state, navigate, now_s }) {
  const given = state.extra.hour ?? "";
  const fields = {};
  const latest = rfc3339(now_s - (now_s % HOUR_S) - HOUR_S);
  const form = h(
    "form",
    {
      class: "card question",
      novalidate: true,
      onsubmit: (event) => {
        event.preventDefault();
        navigate({ view: "hour", extra: { hour: fields.hour.value.trim() } });
      },
    },
    h("div", { class: "fields" }, field(fields, "hour", "Hour (UTC)", given || latest, latest)),
    h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Check")),
  );
  const page = { title: "Hour", subtitle: "Whether everything that counts this hour agrees", form };
  if (!given) return { ...page, load: null };
  return {
    ...page,
    async load(signal) {
      const answer = await ask(`hours/${encodeURIComponent(given)}`, {}, signal);
      return { answer, parts: [story(answer)] };
    },
  };
}
