// Usage and cost: a picture with its legend, a table that is the truth, and the figures over time.

import { ask, knownRole, Problem } from "../api.js";
import { chart, described, swatch } from "../chart.js";
import { go, h } from "../dom.js";
import { cents, change, grouped, largestFirst, sized, sum, whole } from "../figures.js";
import { questionForm } from "../form.js";
import { nothing, periods, sharedTiers } from "../messages.js";
import { layers, MOST, sums } from "../stack.js";
import { changed, deeper, FILTERS, question, rangeOf, splitsOf, UNITS, WORDS, written } from "../state.js";
import { byteTile, card, tile } from "../table.js";
import { before, readable, rfc3339, seconds, short, steps, unitName, unitOf } from "../times.js";
import { fillSpots, MEASURES, spot } from "./measures.js";
import { tableCard, timeCard } from "./rows.js";

// Of what has no price, or had usage before and has none now, so many are named.
const MOST_NAMED = 4;

export function usage(context) {
  return explorer("usage", context);
}

export function cost(context) {
  return explorer("cost", context);
}

function explorer(view, { state, now_s, navigate, place }) {
  const splits = splitsOf(view, place.regions.includes(","), knownRole());
  const range = rangeOf(state, now_s);
  const split = splits.includes(state.by) ? state.by : "usage_type";
  const form = questionForm(state, { now_s, onState: navigate, splits, view });
  const page = { title: MEASURES[view].title, form, splits, load: null };
  if (Object.keys(range.problems).length) return page;
  const unit = UNITS.includes(state.per) ? state.per : unitOf(range);
  const main = question(state, range, split);
  const drawn = question(state, range, `${unit},${split}`);
  return {
    ...page,
    subtitle: `${readable(rfc3339(range.from_s))} to ${readable(rfc3339(range.to_s))} UTC, by ${WORDS[split]}`,
    async load(signal) {
      const { answer, picture } = await asked(view, split, main, drawn, signal);
      const shown = { view, splits, state, range, split, unit, now_s, navigate, main, drawn, spots: new Map() };
      const rows = ordered(shown, answer);
      if (picture.rows) Object.assign(picture, stacked(shown, picture, rows));
      return {
        answer,
        parts: parts(shown, answer, picture, rows),
        twins: choices(shown),
        after: () => Promise.all([compare(shown, picture, rows, signal), nameRows(shown, rows)]),
      };
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
  if (!picture.rows) return { answer: apart(await ask(view, main, { signal })), picture };
  return { answer: { ...picture, rows: summed(picture.rows, split), beside: summed(picture.beside, split) }, picture };
}

/** Processing is a second count of bytes, and in no sum: its rows, which the answer names, stand beside the others. */
function apart(answer) {
  const names = new Set(answer.processing);
  const [rows, beside] = [[], []];
  for (const row of answer.rows)
    if (names.has(row.usage_type)) beside.push({ ...row, processed_bytes: row.bytes });
    else rows.push(row);
  return { ...answer, rows, beside };
}

async function drawable(view, drawn, signal) {
  try {
    return apart(await ask(view, drawn, { signal }));
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
    const into = found.get(name) ?? { [split]: name };
    for (const figure of ["bytes", "records", "processed_bytes"])
      into[figure] = whole(row[figure] ?? 0) + (into[figure] ?? 0n);
    found.set(name, into);
  }
  return [...found.values()];
}

/** Rows of the table: the largest first, by what the view counts and then by their bytes, each with its layer. */
function ordered({ view, split }, answer) {
  const { valueOf } = MEASURES[view];
  const rows = [...answer.rows].sort(
    (one, other) =>
      largestFirst(valueOf(one), valueOf(other)) ||
      largestFirst(whole(one.bytes), whole(other.bytes)) ||
      (one[split] < other[split] ? -1 : 1),
  );
  const drawn = rows.length <= MOST + 1 ? rows.length : MOST;
  return rows.map((row, depth) => ({ ...row, value: valueOf(row), depth: depth < drawn ? depth : -1 }));
}

function parts(shown, answer, picture, rows) {
  if (!rows.length && !answer.beside?.length) return [nothing(emptyWords(shown.state), emptyLinks(shown.state))];
  return [
    shown.view === "cost" ? withoutPrice(answer, rows) : null,
    tiles(shown, answer, rows),
    pictureCard(shown, picture, rows),
    tableCard(shown, answer, rows),
    timeCard(shown, picture),
    shown.view === "cost" && knownRole() === "customer" ? sharedTiers() : null,
  ];
}

function emptyWords(state) {
  return FILTERS.some((name) => state[name])
    ? "No usage matches these filters in this range."
    : "No usage in this range.";
}

function emptyLinks(state) {
  const none = Object.fromEntries([...FILTERS, "payer", "with_corrections"].map((name) => [name, ""]));
  const wide = ["Last 30 days", written(changed(state, { range: "30d", from: "", to: "" }))];
  return FILTERS.some((name) => state[name]) ? [["Clear filters", written(changed(state, none))], wide] : [wide];
}

// What no price covers changes what every other figure of costs means.
function withoutPrice(answer, rows) {
  const bytes = sum(rows.map((row) => whole(row.unpriced_bytes ?? "0")));
  if (!bytes) return null;
  const names = [...new Set((answer.unpriced ?? []).map((each) => each.usage_type))];
  const more = names.length > MOST_NAMED ? ` and ${grouped(names.length - MOST_NAMED)} more` : "";
  const listed = names.length ? `: ${names.slice(0, MOST_NAMED).join(", ")}${more}` : "";
  return h(
    "p",
    { class: "banner warn", id: "unpriced", role: "note" },
    h("strong", {}, `${sized(bytes)} without a price`),
    ` are in no cost${listed}.`,
  );
}

function tiles(shown, answer, rows) {
  const { view, split, spots } = shown;
  const bytes = sum(rows.map((row) => whole(row.bytes)));
  const named = `${grouped(rows.length)} ${rows.length === 1 ? WORDS[split] : `${WORDS[split]}s`}`;
  const asOf = `as of ${readable(answer.as_of)} UTC`;
  const book = answer.price_book ? `, prices ${answer.price_book.name} version ${answer.price_book.version}` : "";
  const state = tile("State", periods(answer) ?? "\u2013", asOf + book);
  const against = h("span", { class: "against" }, spot(shown, "total"), spot(shown, "against", "soft"));
  spots.now = view === "usage" ? bytes : sum(rows.map((row) => row.value));
  const total = byteTile("Total", bytes, { id: "total", "data-bytes": String(bytes) }, view === "usage" ? against : "");
  if (view === "usage") {
    const records = sum(rows.map((row) => whole(row.records)));
    const processed = sum([...answer.beside, ...rows].map((row) => whole(row.processed_bytes ?? 0)));
    const beside = processed ? byteTile("Processed", processed, {}, ", not in it") : null;
    return h("div", { class: "tiles" }, total, beside, tile("Records", grouped(records), `in ${named}`), state);
  }
  const large = [cents(answer.total_usd), h("span", { class: "unit" }, " USD")];
  const exact = h("span", { class: "digits" }, `${grouped(answer.total_usd)} USD exactly`);
  const figure = tile("Cost", large, [exact, against], { id: "cost-total", "data-usd": answer.total_usd });
  return h("div", { class: "tiles" }, figure, total, state);
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
  const title = `${measure.what} by ${unit}, UTC`;
  if (!picture.rows) {
    const words = `The picture is left out: ${picture.problem.message} The table below is complete.`;
    return card("picture", title, h("p", { class: "empty" }, words));
  }
  const { at, stack, outside } = picture;
  const highest = sums(stack).reduce((most, each) => (each > most ? each : most), 0n);
  const drawing = chart(stack, {
    unit,
    at,
    axis: measure.axis(highest),
    shown: measure.shown,
    named: (layer) => layerName(layer, rows),
    label: described(stack, { what: measure.title, unit, at, shown: measure.shown }),
    onRange: (from_s, to_s) => navigate(changed(state, { range: "", per: "", from: short(from_s), to: short(to_s) })),
  });
  shown.drawing = drawing;
  const later = outside ? ` Not in the picture: ${measure.shown(outside)} that were booked after this range.` : "";
  const hint = h("p", { class: "hint" }, `Draw across the picture to look closer.${later}`);
  return card("picture", title, h("div", { class: "pictured" }, drawing, legend(shown, stack, rows)), hint);
}

function layerName(layer, rows) {
  return layer.count ? `${grouped(rows.length - MOST)} others` : layer.name || "(none)";
}

/** The layers with their totals, the largest first; pointing at one lets it stand out. */
function legend(shown, stack, rows) {
  const { shown: text } = MEASURES[shown.view];
  const lines = stack.map((layer, depth) => {
    const name = layerName(layer, rows);
    const href = layer.count ? null : deeper(shown.state, shown.split, layer.name, shown.splits);
    return h(
      "li",
      { onpointerenter: () => shown.drawing.light(depth), onpointerleave: () => shown.drawing.light(-1) },
      swatch(depth, layer.count),
      h(
        "span",
        {},
        href ? go(written(href), { class: "id" }, name) : name,
        " ",
        spot(shown, `name ${layer.count ? "" : layer.name}`, "given"),
      ),
      h("b", {}, text(layer.total)),
      spot(shown, layer.count ? "others" : `layer ${layer.name}`),
    );
  });
  shown.drawing.addEventListener("lit", ({ detail }) =>
    lines.forEach((line, depth) => line.classList.toggle("lit", detail === depth)),
  );
  return h("ul", { class: "legend", "aria-label": "Layers, the largest first" }, lines, earlierLine(shown));
}

function earlierLine(shown) {
  const line = h("li", { class: "earlier", hidden: true }, h("span", { class: "dash" }), spot(shown, "name", "id"));
  line.append(spot(shown, "earlier", "figure"), h("span", {}));
  shown.earlier = line;
  return line;
}

// Names of accounts and payers come beside their ids.
async function nameRows(shown, rows) {
  const { split } = shown;
  if (split !== "account_id" && split !== "payer") return;
  const { namesOf } = await import("../names.js");
  const names = (await namesOf())[split === "payer" ? "payers" : "accounts"];
  for (const row of rows) {
    row.label = names.get(row[split]) ?? "";
    fillSpots(shown, `name ${row[split]}`, row.label);
  }
}

/** The same question of the period before: a line in the picture, and what changed. */
async function compare(shown, picture, rows, signal) {
  const { view, split, unit, range, drawn } = shown;
  const { valueOf, shown: text } = MEASURES[view];
  if (!rows.length || !picture.rows) return;
  const earlier = before(range);
  const words = { ...drawn, from: rfc3339(earlier.from_s), to: rfc3339(earlier.to_s) };
  const answer = await drawable(view, words, signal);
  if (signal.aborted || !answer.rows) return;
  const place = new Map(steps(unit, earlier, earlier.to_s).map((at_s, index) => [unitName(unit, at_s), index]));
  const values = picture.at.map(() => 0n);
  const names = new Map();
  for (const row of answer.rows) {
    const index = place.get(row[unit]);
    const name = String(row[split] ?? "");
    if (index === undefined) continue;
    if (index < values.length) values[index] += valueOf(row);
    names.set(name, (names.get(name) ?? 0n) + valueOf(row));
  }
  const was = sum([...names.values()]);
  shown.drawing.compare(values, earlier.name);
  shown.earlier.hidden = false;
  const fill = (key, said) => fillSpots(shown, key, said);
  fill("total", was ? change(shown.spots.now, was) : "");
  fill("against", was ? ` against ${earlier.name} (${text(was)})` : `none in ${earlier.name}`);
  fill("name", earlier.name);
  fill("earlier", h("b", {}, text(was)));
  for (const row of rows) {
    const name = String(row[split] ?? "");
    row.before = names.get(name) ?? 0n;
    row.compared = true;
    for (const key of [`layer ${name}`, `row ${name}`]) fill(key, change(row.value, row.before));
    names.delete(name);
  }
  const others = rows.filter((row) => row.depth < 0);
  fill("others", change(sum(others.map((row) => row.value)), sum(others.map((row) => row.before))));
  const gone = [...names].filter(([, value]) => value > 0n).sort(([, one], [, other]) => largestFirst(one, other));
  const listed = gone.slice(0, MOST_NAMED).map(([name, value]) => `${name || "(none)"} (${text(value)})`);
  const more = gone.length > MOST_NAMED ? ` and ${grouped(gone.length - MOST_NAMED)} more` : "";
  if (gone.length) fill("gone", `Only in ${earlier.name}: ${listed.join(", ")}${more}.`);
}

function choices({ view, split, unit, main, drawn }) {
  return [
    { label: "The table", path: view, asked: main },
    { label: `By ${unit} and ${WORDS[split]}`, path: view, asked: drawn },
  ];
}
