// Usage and cost: a picture, a table that is the truth, and the figures over time.

import { ask, knownRole, Problem } from "../api.js";
import { chart, described, swatch } from "../chart.js";
import { go, h } from "../dom.js";
import {
  GB,
  GB_IN_WORDS,
  gigabytes,
  grouped,
  largestFirst,
  percent,
  scaled,
  sum,
  unscaled,
  whole,
} from "../figures.js";
import { questionForm } from "../form.js";
import { nothing, periods, sharedTiers } from "../messages.js";
import { layers, MOST, sums } from "../stack.js";
import { changed, deeper, FILTERS, question, rangeOf, splitsOf, UNITS, WORDS, written } from "../state.js";
import { byteTile, card, table, tile } from "../table.js";
import { following, readable, rfc3339, seconds, short, steps, unitName, unitOf } from "../times.js";

const USD_PLACES = 10;

/** What is counted by a view: how a row's exact value is read and written, and what the axis says. */
const MEASURES = {
  usage: {
    title: "Usage",
    heading: GB_IN_WORDS,
    per: GB,
    valueOf: (row) => whole(row.bytes),
    shown: (value) => `${gigabytes(value)} GB`,
  },
  cost: {
    title: "Cost",
    heading: "USD",
    per: 10n ** BigInt(USD_PLACES),
    // Without a price there is nothing to draw; the table says so.
    valueOf: (row) => (row.cost_usd === null ? 0n : scaled(row.cost_usd, USD_PLACES)),
    shown: (value) => `${grouped(unscaled(value, USD_PLACES))} USD`,
  },
};

export function usage(context) {
  return explorer("usage", context);
}

export function cost(context) {
  return explorer("cost", context);
}

function explorer(view, { state, now_s, navigate, place }) {
  const splits = splitsOf(view, place.regions.includes(","));
  const range = rangeOf(state, now_s);
  const split = splits.includes(state.by) ? state.by : "usage_type";
  const form = questionForm(state, { now_s, onState: navigate, splits, view });
  const title = MEASURES[view].title;
  if (Object.keys(range.problems).length) return { title, form, load: null };
  const unit = UNITS.includes(state.per) ? state.per : unitOf(range);
  const main = question(state, range, split);
  const drawn = question(state, range, `${unit},${split}`);
  return {
    title,
    subtitle: `${readable(rfc3339(range.from_s))} to ${readable(rfc3339(range.to_s))} UTC, by ${WORDS[split]}`,
    form,
    async load(signal) {
      const { answer, picture } = await asked(view, split, main, drawn, signal);
      const shown = { view, splits, state, range, split, unit, now_s, navigate, main, drawn };
      const rows = ordered(shown, answer);
      if (picture.rows) Object.assign(picture, stacked(shown, picture, rows));
      return { answer, parts: parts(shown, answer, picture, rows), twins: choices(shown) };
    },
  };
}

/**
 * The answer of the table, and that of the picture, which has more rows: if it has too many, the table still stands.
 *
 * Bytes are exact, so those of the table are the sums of the picture's, and nothing is read twice. A cost is
 * rounded once a row, so the table asks for its own.
 */
async function asked(view, split, main, drawn, signal) {
  if (view === "cost") {
    const [answer, picture] = await Promise.all([ask(view, main, { signal }), drawable(view, drawn, signal)]);
    return { answer, picture };
  }
  const picture = await drawable(view, drawn, signal);
  if (!picture.rows) return { answer: await ask(view, main, { signal }), picture };
  return { answer: { ...picture, rows: summed(picture.rows, split) }, picture };
}

async function drawable(view, drawn, signal) {
  try {
    return await ask(view, drawn, { signal });
  } catch (problem) {
    // Nobody is let in by asking again, and nobody waits for who has gone.
    if (signal.aborted || !(problem instanceof Problem) || problem.status !== 422) throw problem;
    return { rows: null, problem };
  }
}

function summed(rows, split) {
  const found = new Map();
  for (const row of rows) {
    const name = row[split] ?? "";
    const [bytes, records] = found.get(name) ?? [0n, 0n];
    found.set(name, [bytes + whole(row.bytes), records + whole(row.records)]);
  }
  const texts = ([name, [bytes, records]]) => ({ [split]: name, bytes: String(bytes), records: String(records) });
  return [...found].map(texts);
}

/** Rows of the table: the largest first, by what the view counts and then by their bytes. */
function ordered({ view, split }, answer) {
  const { valueOf } = MEASURES[view];
  return [...answer.rows].sort(
    (one, other) =>
      largestFirst(valueOf(one), valueOf(other)) ||
      largestFirst(whole(one.bytes), whole(other.bytes)) ||
      (one[split] < other[split] ? -1 : 1),
  );
}

function parts(shown, answer, picture, rows) {
  if (!rows.length) return [nothing(emptyWords(shown.state), emptyLinks(shown.state))];
  return [
    tiles(shown, answer, rows),
    pictureCard(shown, picture, rows),
    tableCard(shown, answer, rows),
    timeCard(shown, picture),
    ...(shown.view === "cost" && knownRole() === "customer" ? [sharedTiers()] : []),
  ];
}

function emptyWords(state) {
  return FILTERS.some((name) => state[name])
    ? "No usage matches these filters in this range."
    : "No usage in this range.";
}

function emptyLinks(state) {
  const none = Object.fromEntries([...FILTERS, "with_corrections"].map((name) => [name, ""]));
  const wide = ["Last 30 days", written(changed(state, { range: "30d", from: "", to: "" }))];
  return FILTERS.some((name) => state[name]) ? [["Clear filters", written(changed(state, none))], wide] : [wide];
}

function tiles({ view, split }, answer, rows) {
  const bytes = sum(rows.map((row) => whole(row.bytes)));
  const total = byteTile("Total", bytes, { id: "total", "data-bytes": String(bytes) });
  const named = `${grouped(rows.length)} ${rows.length === 1 ? WORDS[split] : `${WORDS[split]}s`}`;
  const asOf = `as of ${readable(answer.as_of)} UTC`;
  const book = answer.price_book ? `, prices ${answer.price_book.name} version ${answer.price_book.version}` : "";
  const state = tile("State", periods(answer) ?? "\u2013", asOf + book);
  if (view === "usage") {
    const records = sum(rows.map((row) => whole(row.records)));
    return h("div", { class: "tiles" }, total, tile("Records", grouped(records), `in ${named}`), state);
  }
  const unpriced = sum(rows.map((row) => whole(row.unpriced_bytes ?? "0")));
  return h(
    "div",
    { class: "tiles" },
    tile(
      "Cost",
      [grouped(rounded(answer.total_usd, 2)), h("span", { class: "unit" }, " USD")],
      `${grouped(answer.total_usd)} USD exactly`,
      { id: "cost-total", "data-usd": answer.total_usd },
    ),
    total,
    tile(
      "Without a price",
      [gigabytes(unpriced), h("span", { class: "unit" }, " GB")],
      `${grouped(unpriced)} bytes, not in the cost`,
      unpriced > 0n ? { class: "tile warn" } : {},
    ),
    state,
  );
}

// Rounded for the eye; the exact text stands in a tile.
function rounded(text, places) {
  const decimals = (String(text).split(".")[1] ?? "").length;
  const value = scaled(text, Math.max(decimals, places));
  const below = 10n ** BigInt(Math.max(decimals, places) - places);
  const size = value < 0n ? -value : value;
  const cents = (2n * size + below) / (2n * below);
  return `${value < 0n ? "-" : ""}${unscaled(cents, places)}`;
}

/** The layers of a picture, and what of the answer lies outside of its range: corrections that were booked later. */
function stacked({ view, range, split, unit, now_s }, picture, rows) {
  const { valueOf } = MEASURES[view];
  let at = steps(unit, range, seconds(picture.as_of) ?? now_s);
  if (!picture.rows.every((row) => has(at, unit, row))) at = steps(unit, range, range.to_s);
  const known = new Set(at.map((value_s) => unitName(unit, value_s)));
  const inside = picture.rows.filter((row) => known.has(row[unit]));
  const order = rows.map((row) => String(row[split] ?? ""));
  const outside = sum(picture.rows.filter((row) => !known.has(row[unit])).map(valueOf));
  return { at, stack: layers(inside, { unit, at, name: split, valueOf, order }), outside };
}

function has(at, unit, row) {
  return row[unit] <= unitName(unit, at.at(-1));
}

function pictureCard(shown, picture, rows) {
  const { view, unit, navigate, state } = shown;
  const measure = MEASURES[view];
  const title = `${measure.heading} by ${unit}, UTC`;
  if (!picture.rows) {
    const words = `The picture is left out: ${picture.problem.message} The table below is complete.`;
    return card("picture", title, h("p", { class: "empty" }, words));
  }
  const { at, stack, outside } = picture;
  const drawing = chart(stack, {
    unit,
    at,
    per: measure.per,
    heading: measure.heading,
    shown: measure.shown,
    label: described(stack, { what: measure.title, unit, at, shown: measure.shown }),
    onRange: (from_s, to_s) => navigate(changed(state, { range: "", per: "", from: short(from_s), to: short(to_s) })),
  });
  const others =
    rows.length > MOST + 1
      ? ` The ${MOST} largest have a colour; the other ${grouped(rows.length - MOST)} are one layer.`
      : "";
  const later = outside ? ` Not in the picture: ${measure.shown(outside)} that were booked after this range.` : "";
  return card(
    "picture",
    title,
    drawing,
    h(
      "p",
      { class: "hint" },
      "Draw across the picture to look closer. The layers lie in the order of the table, the first at the bottom.",
      others,
      later,
    ),
  );
}

function tableCard(shown, answer, rows) {
  const { view, split, state } = shown;
  const measure = MEASURES[view];
  const total = sum(rows.map(measure.valueOf));
  const bytes = String(sum(rows.map((row) => whole(row.bytes))));
  const records = String(sum(rows.map((row) => whole(row.records ?? 0))));
  const foot = {
    bytes,
    records,
    cost_usd: answer.total_usd && rounded(answer.total_usd, USD_PLACES),
    quantity_gb: "",
    total: true,
  };
  const columns = [
    nameColumn(shown, rows),
    ...(view === "cost" ? costColumns() : usageColumns()),
    shareColumn(measure, total),
  ];
  const caption = `${measure.title} by ${WORDS[split]}, the largest first`;
  const trace = traceLink(shown);
  return h(
    "section",
    { class: "card", "aria-labelledby": "figures" },
    h(
      "div",
      { class: "card-head" },
      h("h2", { id: "figures" }, `By ${WORDS[split]}`),
      trace ? go(trace, { class: "button quiet" }, "Trace this line to its batches") : null,
    ),
    table(columns, rows, { caption, foot }),
    view === "cost"
      ? h(
          "p",
          { class: "hint" },
          "Each row is rounded to 10 decimals; the total is exact, so the rows may add up to a little more or less.",
        )
      : null,
    state.with_corrections
      ? h("p", { class: "hint" }, "With what was booked later for closed months of this range.")
      : null,
  );
}

function nameColumn({ split, splits, state }, rows) {
  const drawn = rows.length <= MOST + 1 ? rows.length : MOST;
  return {
    name: split,
    title: WORDS[split],
    foot: () => "Total",
    cell(row, index) {
      const value = String(row[split] ?? "");
      const next = deeper(state, split, value, splits);
      const label = value || "(none)";
      const name = next
        ? go(written(next), { class: "id", title: `Only ${label}, split by ${WORDS[next.by]}` }, label)
        : h("span", { class: "id" }, label);
      return h("span", { class: "named" }, swatch(Math.min(index, MOST), index >= drawn), name);
    },
  };
}

function usageColumns() {
  return [
    { name: "bytes", title: "bytes", kind: "bytes" },
    { name: "bytes", title: GB_IN_WORDS, kind: "gb" },
    { name: "records", title: "records", kind: "integer" },
  ];
}

function costColumns() {
  return [
    { name: "cost_usd", title: "cost (USD)", kind: "money", cell: costCell },
    { name: "quantity_gb", title: GB_IN_WORDS, kind: "money", foot: (row) => gigabytes(whole(row.bytes), USD_PLACES) },
    { name: "bytes", title: "bytes", kind: "bytes" },
  ];
}

// What a rule says is not sold here has no cost; 0 would say that it is free.
function costCell(row) {
  if ((row.cost_usd ?? null) === null) return "no price";
  return row.bytes !== "0" && row.bytes === row.unrated_bytes ? "not sold here" : grouped(row.cost_usd);
}

function shareColumn(measure, total) {
  return {
    name: "share",
    title: "share",
    kind: "text",
    foot: () => "",
    cell(row) {
      if (row.cost_usd === null) return "";
      const value = measure.valueOf(row);
      const part = total > 0n ? Number((value * 1000n) / total) / 10 : 0;
      return h("span", { class: "share", "--share": `${Math.max(0, part)}%` }, percent(value, total));
    },
  };
}

// One line of one account can be followed down to its batches.
function traceLink({ state, range, split, view }) {
  const one = (name) => state[name] && !state[name].includes(",");
  if (view !== "usage" || !one("account") || !one("usage_type") || split === "tier") return "";
  const words = Object.fromEntries(FILTERS.map((name) => [name, state[name] ?? ""]));
  return written({ view: "trace", ...words, from: short(range.from_s), to: short(range.to_s) });
}

function timeCard(shown, picture) {
  const { view, unit, state } = shown;
  if (!picture.rows) return null;
  const measure = MEASURES[view];
  const { at, stack, outside } = picture;
  const totals = sums(stack);
  const rows = at.map((value_s, index) => ({
    unit: unitName(unit, value_s),
    at_s: value_s,
    value: totals[index] ?? 0n,
  }));
  if (outside) rows.push({ unit: "later, as corrections", value: outside });
  const finer = { month: "day", day: "hour" }[unit];
  const first = {
    name: "unit",
    title: `${unit} (UTC)`,
    foot: () => "Total",
    cell(row) {
      const closer = changed(state, {
        range: "",
        per: finer,
        from: short(row.at_s),
        to: short(following(unit, row.at_s)),
      });
      return finer && row.at_s
        ? go(written(closer), { class: "id" }, readable(row.unit))
        : h("span", { class: "id" }, readable(row.unit));
    },
  };
  const exact = view === "usage" ? usageColumns().slice(0, 2) : [{ name: "cost", title: "cost (USD)", kind: "money" }];
  const written_ = (row) => ({ ...row, bytes: String(row.value), cost: unscaled(row.value, USD_PLACES) });
  const foot = written_({ value: sum(totals) + outside });
  return h(
    "details",
    { class: "card over-time" },
    h("summary", {}, h("h2", {}, `The figures by ${unit}`)),
    table([first, ...exact], rows.map(written_), { caption: `${measure.title} by ${unit} in UTC`, foot }),
  );
}

function choices({ view, split, unit, main, drawn }) {
  return [
    { label: "The table", path: view, asked: main },
    { label: `By ${unit} and ${WORDS[split]}`, path: view, asked: drawn },
  ];
}
