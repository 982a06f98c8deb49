// Trace: a line down to its hours, batches and files, with three sums that must be equal.

import { ask } from "../api.js";
import { go, h } from "../dom.js";
import { grouped, whole } from "../figures.js";
import { DECLARED } from "../filters.js";
import { complain, field, suggest, suggested, timeFields } from "../form.js";
import { badge, commandOf, nothing } from "../messages.js";
import { FILTERS, rangeOf, written } from "../state.js";
import { batchLink, byteTile, card, table, tile } from "../table.js";
import { readable, rfc3339 } from "../times.js";

const BYTES = [
  { name: "bytes", title: "bytes", kind: "bytes" },
  { name: "bytes", title: "size", kind: "size" },
];
const SUMS = {
  usage: "The report says",
  rows: "The rows add up to",
  markers: "The markers of the batches say",
};

export function trace({ state, now_s, navigate }) {
  const range = rangeOf({ ...state, range: state.range || "24h" }, now_s);
  const page = {
    title: "Trace",
    subtitle: "A figure down to the batches that it is the sum of",
    form: traceForm(state, range, navigate),
  };
  if (!state.account || !state.usage_type || Object.keys(range.problems).length) {
    return { ...page, load: null, hint: howTo() };
  }
  const asked = { from: rfc3339(range.from_s), to: rfc3339(range.to_s) };
  for (const name of FILTERS) if (state[name]) asked[name] = state[name];
  return {
    ...page,
    async load(signal) {
      const answer = await ask("trace", asked, { signal, list: "batches" });
      return { answer, parts: traced(answer), twins: [{ label: "Trace", path: "trace", asked }] };
    },
  };
}

function howTo() {
  const words =
    "Then you see which batches its bytes came in, and whether report, rows and markers agree to the byte. " +
    "From the usage page, filter by one account and one usage type, and follow the link above the table.";
  return h(
    "div",
    { class: "card nothing" },
    h("p", { class: "nothing-title" }, "Name an account and a usage type"),
    h("p", { class: "soft" }, words),
  );
}

function traceForm(state, range, navigate) {
  const fields = {};
  const filters = [...new Set(["account", "usage_type", ...FILTERS])].map((name) => {
    const { label, hint, all } = DECLARED[name];
    const made = field(fields, name, label, state[name] || "", all || hint);
    suggest(fields[name], () => suggested(name, Object.keys(range.problems).length ? null : range));
    return made;
  });
  const times = timeFields(fields, state, range);
  function submit(event) {
    event.preventDefault();
    const next = { view: "trace" };
    for (const name of Object.keys(fields)) next[name] = fields[name].value.trim();
    complain(fields.account, /^\d{12}$/.test(next.account) ? "" : "Name one account: 12 digits.");
    complain(fields.usage_type, next.usage_type ? "" : "Name one usage type.");
    if (!form.querySelector("#account[aria-invalid], #usage_type[aria-invalid]")) navigate(next);
  }
  const form = h(
    "form",
    { class: "card question", onsubmit: submit, novalidate: true },
    h(
      "div",
      { class: "toolbar" },
      filters,
      times,
      h("div", { class: "field last" }, h("button", { type: "submit" }, "Trace")),
    ),
  );
  return form;
}

function traced(answer) {
  const { batches, hours, line } = answer;
  if (!batches.length && !hours.length) return [nothing("Nothing was metered on this line in this range.")];
  return [
    verdict(answer),
    answer.equal ? null : differences(answer),
    card(
      "batches",
      `${grouped(batches.length)} ${batches.length === 1 ? "batch" : "batches"}`,
      table(batchColumns(batches), batches, {
        caption: "Batches of this line",
        foot: { bytes: sumOf(batches), records: line.records },
        empty: "No row of a batch is left.",
      }),
    ),
    card("hours", `${grouped(hours.length)} ${hours.length === 1 ? "hour" : "hours"}`, lineHours(hours)),
  ];
}

function sumOf(rows) {
  return String(rows.reduce((total, row) => total + whole(row.bytes), 0n));
}

function verdict(answer) {
  const tiles = Object.entries(answer.sums).map(([name, value]) => {
    const attributes = { "data-sum": name, "data-bytes": String(value) };
    if (value !== null) return byteTile(SUMS[name] ?? name, value, attributes);
    return tile(SUMS[name] ?? name, "no longer", "markers end after their time; the rows remain", attributes);
  });
  const words = answer.equal ? "Equal to the byte" : "Not equal";
  return h(
    "section",
    { class: `card verdict ${answer.equal ? "good" : "bad"}`, "aria-labelledby": "verdict" },
    h("h2", { id: "verdict" }, words, " ", badge(answer.equal ? "proved" : "look here", answer.equal ? "good" : "bad")),
    h("div", { class: "tiles", id: "sums", "data-equal": String(answer.equal) }, tiles),
  );
}

function differences(answer) {
  const rows = answer.differences ?? [];
  const unsettled = answer.unsettled ?? [];
  const names = ["region", "hour", "usage_type", "service", "from", "to"].filter((name) =>
    rows.some((row) => row[name]),
  );
  const columns = [
    ...names.map((name) => ({ name, title: name.replace("_", " "), kind: name === "hour" ? "time" : "mono" })),
    { name: "usage_bytes", title: "report (bytes)", kind: "bytes" },
    { name: "rows_bytes", title: "rows (bytes)", kind: "bytes" },
  ];
  const check = `metering reconcile --deep --from ${answer.line.from} --to ${answer.line.to}`;
  const more = (answer.differences_total ?? rows.length) - rows.length;
  return card(
    "differences",
    "Where they differ",
    rows.length ? table(columns, rows, { caption: "Keys that differ" }) : null,
    more > 0 ? h("p", { class: "hint" }, `And ${grouped(more)} more.`) : null,
    unsettled.length
      ? h(
          "p",
          { class: "hint" },
          `Batches of these hours are coming in: ${unsettled.map(readable).join(", ")}. Look again in a minute.`,
        )
      : null,
    h("p", { class: "hint" }, "This checks the range from the ground up: ", commandOf(check)),
  );
}

function batchColumns(batches) {
  const known = new Set(batches.flatMap((each) => Object.keys(each)));
  const moods = { agrees: "good", differs: "bad", missing: "bad", expired: "" };
  const named = [
    { name: "region", kind: "mono" },
    { name: "source_id", title: "source", kind: "mono" },
    { name: "first_hour", title: "first hour (UTC)", kind: "time" },
  ];
  return [
    { name: "batch_id", title: "batch", kind: "mono", foot: () => "Total", cell: (row) => batchLink(row.batch_id) },
    ...named.filter(({ name }) => known.has(name)).map((column) => ({ ...column, foot: () => "" })),
    ...BYTES,
    { name: "records", title: "records", kind: "integer" },
    { name: "marker", foot: () => "", cell: (row) => badge(row.marker, moods[row.marker] ?? "") },
  ];
}

function lineHours(rows) {
  const open = (row) => go(written({ view: "hour", extra: { hour: row.hour } }), { class: "id" }, readable(row.hour));
  const columns = [
    { name: "hour", title: "hour (UTC)", kind: "time", cell: open },
    { name: "bytes", title: "report (bytes)", kind: "bytes" },
    { name: "rows_bytes", title: "rows (bytes)", kind: "bytes" },
    { name: "records", title: "records", kind: "integer" },
    {
      name: "equal",
      title: "equal",
      cell: (row) => badge(row.equal ? "equal" : "differs", row.equal ? "good" : "bad"),
    },
  ];
  if (rows.some((row) => row.files)) {
    columns.push({
      name: "files",
      title: "files",
      cell: (row) => h("ul", { class: "plain keys" }, row.files.map(file)),
    });
  }
  return table(columns, rows, { caption: "Hours of this line" });
}

function file({ key, staged }) {
  return h("li", {}, h("code", {}, key), staged ? " (staging)" : "");
}
