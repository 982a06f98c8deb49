// The tables of usage and cost.

import { swatch } from "../chart.js";
import { go, h } from "../dom.js";
import { cents, change, grouped, percent, sized, sum, unscaled, whole } from "../figures.js";
import { sums } from "../stack.js";
import { changed, deeper, FILTERS, WORDS, written } from "../state.js";
import { table } from "../table.js";
import { following, readable, short, unitName } from "../times.js";
import { MEASURES, spot, USD_PLACES } from "./measures.js";

/** Usage types of what gateways process: causes say for whom. */
export const GATEWAY = /(NatGateway|VpcEndpoint|TransitGateway)[\w-]*-Bytes$/;

/** The table that is the truth: a row a value of the split. */
export function tableCard(shown, answer, rows) {
  const { view, split, state } = shown;
  const measure = MEASURES[view];
  const total = sum(rows.map((row) => row.value));
  const bytes = String(sum(rows.map((row) => whole(row.bytes))));
  const records = String(sum(rows.map((row) => whole(row.records ?? 0))));
  const foot = { bytes, records, cost_usd: answer.total_usd, total: true };
  const columns = [
    nameColumn(shown),
    ...(view === "cost" ? costColumns() : usageColumns()),
    { ...shareColumn(total), wide: view === "cost" },
    changeColumn(shown),
  ];
  const [priced, folds] = view === "cost" ? foldedOf(rows) : [rows, [fold("processed", answer.beside)]];
  const caption = `${measure.title} by ${WORDS[split]}, the largest first`;
  const trace = traceLink(shown);
  return h(
    "section",
    { class: "card", "aria-labelledby": "figures" },
    h(
      "div",
      { class: "card-head" },
      h("h2", { id: "figures" }, `By ${WORDS[split]}`),
      h(
        "div",
        { class: "actions" },
        trace ? go(trace, { class: "button quiet" }, "Trace this line to its batches") : null,
        exactButton(),
      ),
    ),
    table(columns, priced, { caption, foot, folds }),
    spot(shown, "gone", "hint gone"),
    h(
      "p",
      { class: "hint digits" },
      view === "cost"
        ? "Each row is rounded to 10 decimals; the total is exact."
        : "",
    ),
    state.with_corrections
      ? h("p", { class: "hint" }, "With what was booked later for closed months.")
      : null,
  );
}

// Exact digits stay in sight, once asked for, until they are sent away.
export function exactButton() {
  const pressed = () => String(document.body.classList.contains("exact"));
  const button = h("button", { type: "button", class: "quiet", "aria-pressed": pressed() }, "Exact digits");
  button.addEventListener("click", () => {
    document.body.classList.toggle("exact");
    button.setAttribute("aria-pressed", pressed());
  });
  return button;
}

function fold(title, inside) {
  const bytes = sum(inside.map((row) => whole(row.bytes)));
  const cells = { size: sized(bytes), bytes: grouped(bytes) };
  return { title: `${title} (${grouped(inside.length)})`, rows: inside, cells };
}

/** Rows with a cost, and one row each for what has no price and for what is not sold. */
function foldedOf(rows) {
  const kinds = { priced: [], unpriced: [], unsold: [] };
  for (const row of rows) {
    const unsold = row.bytes !== "0" && row.bytes === row.unrated_bytes;
    kinds[row.cost_usd === null ? "unpriced" : unsold ? "unsold" : "priced"].push(row);
  }
  return [kinds.priced, [fold("without a price", kinds.unpriced), fold("not sold here", kinds.unsold)]];
}

function nameColumn(shown) {
  const { split, splits, state } = shown;
  return {
    name: split,
    title: WORDS[split],
    foot: () => "Total",
    cell(row) {
      const value = String(row[split] ?? "");
      const next = deeper(state, split, value, splits);
      const label = value || "(none)";
      const name = next
        ? go(written(next), { class: "id", title: `Only ${label}, split by ${WORDS[next.by]}` }, label)
        : h("span", { class: "id" }, label);
      const given = spot(shown, `name ${value}`, "given");
      if (row.label) given.append(row.label);
      if (split === "usage_type" && GATEWAY.test(value)) given.append(go(written(whoseOf(state, value)), {}, "who?"));
      const mark = swatch(Math.max(row.depth, 0), row.depth < 0);
      return h("span", { class: "named" }, mark, h("span", {}, name, " ", given));
    },
  };
}

// Causes know no other filter than the account.
function whoseOf({ account, range, from, to }, usage_type) {
  return { view: "who", account, range, from, to, usage_type, by: "owner" };
}

const BYTES_ORDER = (row) => whole(row.bytes);

export function usageColumns() {
  return [
    { name: "bytes", title: "bytes", kind: "bytes", order: BYTES_ORDER, wide: true },
    { name: "size", title: "size", kind: "number", order: BYTES_ORDER, cell: (row) => sized(whole(row.bytes)) },
    { name: "records", title: "records", kind: "integer", order: (row) => whole(row.records), wide: true },
  ];
}

export function costColumns() {
  return [
    { name: "cost_usd", title: "cost (USD)", kind: "number", order: (row) => row.value, cell: costCell },
    { name: "size", title: "size", kind: "number", order: BYTES_ORDER, cell: (row) => sized(whole(row.bytes)) },
    { name: "bytes", title: "bytes", kind: "bytes", order: BYTES_ORDER, wide: true },
  ];
}

// What a rule says is not sold here has no cost; 0 would say that it is free.
function costCell(row) {
  if ((row.cost_usd ?? null) === null) return "no price";
  if (!row.total && row.bytes !== "0" && row.bytes === row.unrated_bytes) return "not sold here";
  const some = !row.total && whole(row.unpriced_bytes ?? "0");
  return [
    h("span", { class: "cents" }, cents(row.cost_usd)),
    h("span", { class: "digits" }, grouped(row.cost_usd)),
    some ? h("span", { class: "soft without" }, `${sized(some)} without a price`) : null,
  ];
}

function shareColumn(total) {
  return {
    name: "share",
    title: "share",
    kind: "text",
    foot: () => "",
    cell(row) {
      if (row.cost_usd === null || row.depth === undefined) return "";
      const part = total > 0n ? Number((row.value * 1000n) / total) / 10 : 0;
      return h("span", { class: "share", "--share": `${Math.max(0, part)}%` }, percent(row.value, total));
    },
  };
}

function changeColumn(shown) {
  return {
    name: "change",
    title: "change",
    kind: "number",
    order: (row) => row.value - (row.before ?? 0n),
    foot: () => spot(shown, "total"),
    cell(row) {
      const made = spot(shown, `row ${row[shown.split] ?? ""}`);
      if (row.compared) made.append(change(row.value, row.before));
      return made;
    },
  };
}

// One line of one account can be followed down to its batches.
function traceLink({ state, range, split }) {
  const one = (name) => state[name] && !state[name].includes(",");
  if (!one("account") || !one("usage_type") || split === "tier") return "";
  const words = Object.fromEntries(FILTERS.map((name) => [name, state[name] ?? ""]));
  return written({ view: "trace", ...words, from: short(range.from_s), to: short(range.to_s) });
}

/** The sums of the picture, step by step. */
export function timeCard(shown, picture) {
  const { view, unit, state } = shown;
  if (!picture.rows) return null;
  const measure = MEASURES[view];
  const { at, stack, outside } = picture;
  const totals = sums(stack);
  const rows = at.map((at_s, index) => ({ unit: unitName(unit, at_s), at_s, value: totals[index] ?? 0n }));
  if (outside) rows.push({ unit: "later, as corrections", value: outside });
  const finer = { month: "day", day: "hour" }[unit];
  const first = {
    name: "unit",
    title: `${unit} (UTC)`,
    foot: () => "Total",
    cell(row) {
      const closer = () =>
        written(
          changed(state, { range: "", per: finer, from: short(row.at_s), to: short(following(unit, row.at_s)) }),
        );
      const text = readable(row.unit);
      return finer && row.at_s ? go(closer(), { class: "id" }, text) : h("span", { class: "id" }, text);
    },
  };
  const exact = view === "usage" ? usageColumns().slice(0, 2) : costColumns().slice(0, 1);
  const written_ = (row) => ({ ...row, bytes: String(row.value), cost_usd: unscaled(row.value, USD_PLACES) });
  const foot = { ...written_({ value: sum(totals) + outside }), total: true };
  return h(
    "details",
    { class: "card over-time" },
    h("summary", {}, h("h2", {}, `The figures by ${unit}`)),
    table([first, ...exact], rows.map(written_), { caption: `${measure.title} by ${unit} in UTC`, foot }),
  );
}
