// Tables: one place in which figures become cells, so that each of them is exact and none is cut.

import { go, h } from "./dom.js";
import { gigabytes, grouped, whole } from "./figures.js";
import { readable } from "./times.js";

// Rows that are shown at first; a button shows the others. Sums are always over all.
const FIRST = 200;

const KINDS = {
  text: (value) => (value === null || value === undefined || value === "" ? "\u2013" : String(value)),
  mono: (value) => (value === null || value === undefined || value === "" ? "\u2013" : h("code", {}, String(value))),
  prose: (value) => value || "\u2013",
  time: (value) => (value ? readable(value) : "\u2013"),
  integer: (value) => (value === null || value === undefined ? "\u2013" : grouped(value)),
  bytes: (value) => grouped(whole(value)),
  gb: (value) => gigabytes(whole(value)),
  money: (value) => (value === null || value === undefined ? "no price" : grouped(value)),
  flag: (value) => (value ? "yes" : "no"),
};
const RIGHT = new Set(["integer", "bytes", "gb", "money"]);

/**
 * A table in a region that can be scrolled, also by keyboard.
 *
 * @param columns `[{name, title, kind, cell?}]`; `cell(row, index)` makes what a kind cannot
 * @param rows objects; `foot` one more of them, for sums; `caption` names the table
 */
export function table(columns, rows, { caption, foot = null, empty = "Nothing to show." }) {
  if (!rows.length) return h("p", { class: "empty" }, empty);
  const body = h(
    "tbody",
    {},
    rows.slice(0, FIRST).map((row, index) => line(columns, row, index)),
  );
  const head = h(
    "tr",
    {},
    columns.map((column) => h("th", { scope: "col", class: side(column) }, column.title ?? column.name)),
  );
  const whole_ = h(
    "table",
    {},
    h("caption", { class: "hidden" }, caption),
    h("thead", {}, head),
    body,
    foot ? h("tfoot", {}, line(columns, foot, -1)) : null,
  );
  const region = h("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" }, whole_);
  if (rows.length <= FIRST) return region;
  const more = h("button", { type: "button", class: "more" }, `Show all ${grouped(rows.length)} rows`);
  more.addEventListener("click", () => {
    body.append(...rows.slice(FIRST).map((row, index) => line(columns, row, index + FIRST)));
    more.remove();
    region.focus();
  });
  return h("div", {}, region, more);
}

function line(columns, row, index) {
  const cells = columns.map((column, at) => {
    const attributes = { scope: at === 0 ? "row" : null, class: side(column) };
    return h(at === 0 ? "th" : "td", attributes, inside(column, row, index));
  });
  return h("tr", {}, cells);
}

// The row of sums has the index -1.
function inside(column, row, index) {
  if (index < 0 && column.foot) return column.foot(row);
  return column.cell ? column.cell(row, index) : KINDS[column.kind ?? "text"](row[column.name]);
}

function side({ kind }) {
  const wide = kind === "mono" || kind === "prose";
  return `${RIGHT.has(kind) ? "right" : "left"}${wide ? ` ${kind}` : ""}`;
}

/** A part of a view under its heading. */
export function card(id, title, ...inside) {
  return h("section", { class: "card", "aria-labelledby": id }, h("h2", { id }, title), ...inside);
}

/** A list of names and values. */
export function facts(pairs) {
  return h(
    "dl",
    { class: "facts" },
    pairs
      .filter(([, value]) => value !== null && value !== undefined && value !== "")
      .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

/** A figure that stands for itself: large, with its exact form below. */
export function tile(name, large, exact, extra = {}) {
  return h(
    "div",
    { class: "tile", ...extra },
    h("p", { class: "tile-name" }, name),
    h("p", { class: "tile-large" }, large),
    h("p", { class: "tile-exact" }, exact),
  );
}

/** Bytes, exactly and in GB, for a tile. */
export function byteTile(name, value, extra = {}) {
  const exact = whole(value);
  return tile(name, [gigabytes(exact), h("span", { class: "unit" }, " GB")], `${grouped(exact)} bytes`, extra);
}

/** A link with the look of a batch id. */
export function batchLink(id) {
  return go(`?view=batch&id=${encodeURIComponent(id)}`, { class: "id" }, id);
}
