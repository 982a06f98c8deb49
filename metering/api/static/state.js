// The address is the state: what is seen can be copied, reloaded and gone back to.

import { DECLARED } from "./filters.js";
import { named, RANGES, rfc3339, seconds, short } from "./times.js";

export const VIEW_NAMES =
  "usage cost who accounts trace batch hour freshness budgets reports sources quarantine".split(" ");
// Costs have a filter more: who pays.
export const FILTERS = Object.keys(DECLARED).filter((name) => name !== "payer");
const COLUMNS = ["usage_type", "account_id", "service", "from", "to"];
export const SPLITS = { usage: COLUMNS, cost: [...COLUMNS, "tier"] };
/** What rows can be split by: by region where several answer together, by payer for who sees more than own accounts. */
export function splitsOf(view, several, role = "") {
  const payers = view === "cost" && role && role !== "customer" ? ["payer"] : [];
  return [...SPLITS[view], ...payers, ...(several ? ["region"] : [])];
}

export const UNITS = ["hour", "day", "month"];
export const FILTER_OF = Object.fromEntries(Object.keys(DECLARED).map((name) => [DECLARED[name].group, name]));
export const WORDS = {
  account_id: "account",
  usage_type: "usage type",
  service: "service",
  from: "from",
  to: "to",
  tier: "tier",
  payer: "payer",
  region: "region",
};
const DEFAULT_RANGE = "7d";
const KEYS = ["view", "range", "from", "to", "by", "per", ...Object.keys(DECLARED), "with_corrections", "prices"];

/** State of a query string. What it does not know it keeps in `extra`, so that views can have words of their own. */
export function parsed(search) {
  const given = new URLSearchParams(search);
  const state = { view: VIEW_NAMES.includes(given.get("view")) ? given.get("view") : "usage", extra: {} };
  for (const [key, value] of given) {
    if (key === "view" || value === "") continue;
    if (KEYS.includes(key)) state[key] = value;
    else state.extra[key] = value;
  }
  return state;
}

// What the API and the command line call words of the address.
const OTHERS = { group_by: "by", split: "by", last: "range", start: "from", until: "to", end: "to", unit: "per" };
const VALUES = { range: Object.keys(RANGES), per: UNITS };

/** What is said of an address: words that no view knows, and values that are none. `own` are words of its view. */
export function unknownWords(search, state, own, splits) {
  const known = { ...VALUES, ...(splits ? { by: splits } : {}) };
  return [...new URLSearchParams(search)].flatMap(([key, value]) => {
    if (key === "view") return state.view === value ? [] : [`There is no view ${value}: this is ${state.view}.`];
    if (known[key]?.includes(value) === false && value)
      return [`${key}=${value} is left out: ${key} is one of ${known[key].join(", ")}.`];
    if (KEYS.includes(key) || own.includes(key)) return [];
    return [`${key} is left out: the page has no such word. ${OTHERS[key] ? `Write ${OTHERS[key]}=${value}.` : ""}`];
  });
}

/** The query string of a state, always in the same order, without what is empty. */
export function written(state) {
  const words = new URLSearchParams();
  for (const key of KEYS) if (state[key]) words.set(key, state[key]);
  for (const [key, value] of Object.entries(state.extra ?? {})) if (value) words.set(key, value);
  // A comma and a colon need no code here, and people read this.
  return `?${String(words).replaceAll("%2C", ",").replaceAll("%3A", ":").replaceAll("%2F", "/")}`;
}

/** The state with some words changed; those set to nothing go. */
export function changed(state, words) {
  return { ...state, extra: {}, ...words };
}

/** A state's range in seconds, and what is wrong with its words. */
export function rangeOf(state, now_s) {
  if (!state.from && !state.to) {
    const name = RANGES[state.range] ? state.range : DEFAULT_RANGE;
    return { name, ...named(name, now_s), problems: {} };
  }
  const problems = {};
  const from_s = seconds(state.from);
  const to_s = state.to ? seconds(state.to) : named("24h", now_s).to_s;
  const advice = "Write 2026-11, 2026-11-24 or 2026-11-24T13:00Z.";
  if (from_s === null) problems.from = `${state.from || "Nothing"} is not a time. ${advice}`;
  if (to_s === null) problems.to = `${state.to} is not a time. ${advice}`;
  if (from_s !== null && to_s !== null && to_s <= from_s) problems.to = "The end is not after the beginning.";
  return { name: "", from_s, to_s, problems };
}

/** What the API is asked: only what it knows, nothing that is empty. */
export function question(state, range, groupBy) {
  const asked = { from: rfc3339(range.from_s), to: rfc3339(range.to_s), group_by: groupBy };
  for (const filter of FILTERS) if (state[filter]) asked[filter] = state[filter];
  if (state.view === "cost") for (const name of ["payer", "prices"]) if (state[name]) asked[name] = state[name];
  if (state.with_corrections) asked.with_corrections = "true";
  return asked;
}

/** One look deeper: only what this row counts, split by the next column that still says something. */
export function deeper(state, split, value, columns) {
  const filter = FILTER_OF[split];
  if (!filter || value === "") return null;
  const next = { ...state, [filter]: value };
  const open = columns.filter((column) => FILTER_OF[column] && column !== split && !next[FILTER_OF[column]]);
  return changed(next, { by: open[0] ?? split });
}

/** The range moved by its own length. */
export function moved(state, range, times) {
  const by_s = (range.to_s - range.from_s) * times;
  return changed(state, { range: "", from: short(range.from_s + by_s), to: short(range.to_s + by_s) });
}
