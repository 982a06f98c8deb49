// Tables: one place in which figures become cells, so that each of them is exact and none is cut.

import { go, h } from "./dom.js";
import { grouped, largestFirst, sized, whole } from "./figures.js";
import { readable } from "./times.js";

// Rows that are shown at first; a button shows the others. Sums are always over all.
const FIRST = 200;

const CELLS = {
  text: (value) => (value === null || value === undefined || value === "" ? "\u2013" : String(value)),
  mono: (value) => (value === null || value === undefined || value === "" ? "\u2013" : h("code", {}, String(value))),
  prose: (value) => value || "\u2013",
  time: (value) => (value ? readable(value) : "\u2013"),
  integer: (value) => (value === null || value === undefined ? "\u2013" : grouped(value)),
  bytes: (value) => grouped(whole(value)),
  size: (value) => h("span", { title: `${grouped(whole(value))} bytes` }, sized(whole(value))),
  flag: (value) => (value ? "yes" : "no"),
};
const RIGHT = new Set(["integer", "bytes", "size", "number"]);

/**
 * A table in a region that can be scrolled, also by keyboard, and that says so if a part of it is out of sight.
 *
 * @param columns `[{name, title, kind, cell?, order?, wide?}]`; `cell(row)` makes what a kind cannot, `order(row)` is
 *   what a click on the heading sorts by, and a `wide` column is left out on small screens
 * @param rows objects; `foot` one more of them, for sums; `caption` names the table
 * @param folds `[{title, cells, rows}]`: rows behind one row that opens; `cells` are those of the row by column name
 */
export function table(columns, rows, { caption, foot = null, empty = "Nothing to show.", folds = [] }) {
  if (!rows.length && !folds.length) return h("p", { class: "empty" }, empty);
  const body = h("tbody");
  let shown = rows.length > FIRST ? FIRST : rows.length;
  const fill = () => body.replaceChildren(...rows.slice(0, shown).map((row) => line(columns, row)));
  const folded = folds.filter((fold) => fold.rows.length).map((fold) => foldOf(columns, fold));
  const heads = columns.map((column) => heading(column, () => sorted(column)));
  function sorted(column) {
    const down = heads[columns.indexOf(column)].getAttribute("aria-sort") !== "descending";
    const sign = down ? 1 : -1;
    for (const each of heads) each.removeAttribute("aria-sort");
    heads[columns.indexOf(column)].setAttribute("aria-sort", down ? "descending" : "ascending");
    rows = [...rows].sort((one, other) => sign * largestFirst(column.order(one), column.order(other)));
    fill();
  }
  fill();
  const whole_ = h(
    "table",
    {},
    h("caption", { class: "hidden" }, caption),
    h("thead", {}, h("tr", {}, heads)),
    body,
    folded,
    foot ? h("tfoot", {}, line(columns, foot, true)) : null,
  );
  const region = h("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" }, whole_);
  const hint = h("p", { class: "cut-hint", "aria-hidden": "true" }, "More columns to the right \u2192");
  const look = () => hint.classList.toggle("cut", region.scrollWidth - region.clientWidth - region.scrollLeft > 8);
  new ResizeObserver(look).observe(whole_);
  new ResizeObserver(look).observe(region);
  region.addEventListener("scroll", look);
  const all = h("div", {}, hint, region);
  if (rows.length <= FIRST) return all;
  const more = h("button", { type: "button", class: "more" }, `Show all ${grouped(rows.length)} rows`);
  more.addEventListener("click", () => {
    shown = rows.length;
    fill();
    more.remove();
    region.focus();
  });
  all.append(more);
  return all;
}

function heading(column, sort) {
  const text = column.title ?? column.name;
  const inside = column.order ? h("button", { type: "button", class: "sort", onclick: sort }, text) : text;
  return h("th", { scope: "col", class: side(column) }, inside);
}

// One row that says what is behind it; a click shows that.
function foldOf(columns, { title, cells, rows }) {
  const body = h("tbody", { class: "fold" });
  const button = h("button", { type: "button", class: "quiet", "aria-expanded": "false" }, title);
  const [, ...others] = columns;
  const first = h(
    "tr",
    {},
    h("th", { scope: "row" }, button),
    others.map((column) => h("td", { class: side(column) }, cells[column.name] ?? "")),
  );
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-expanded") === "false";
    button.setAttribute("aria-expanded", String(open));
    body.replaceChildren(first, ...(open ? rows.map((row) => line(columns, row)) : []));
    button.focus();
  });
  body.append(first);
  return body;
}

function line(columns, row, foot = false) {
  const cells = columns.map((column, at) => {
    const attributes = { scope: at === 0 ? "row" : null, class: side(column) };
    return h(at === 0 ? "th" : "td", attributes, inside(column, row, foot));
  });
  return h("tr", {}, cells);
}

function inside(column, row, foot) {
  if (foot && column.foot) return column.foot(row);
  return column.cell ? column.cell(row) : CELLS[column.kind ?? "text"](row[column.name]);
}

function side({ kind, wide }) {
  const prose = kind === "mono" || kind === "prose";
  return `${RIGHT.has(kind) ? "right" : "left"}${prose ? ` ${kind}` : ""}${wide ? " wide" : ""}`;
}

/** A part of a view under a heading. */
export function card(id, title, ...parts) {
  return h("section", { class: "card", "aria-labelledby": id }, h("h2", { id }, title), parts);
}

/** Names and values. */
export function facts(pairs) {
  return h(
    "dl",
    { class: "facts" },
    pairs
      .filter(([, value]) => value !== null && value !== undefined && value !== "")
      .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

/** A figure that stands for itself: large, with what is said of it below. */
export function tile(name, large, below, extra = {}) {
  return h(
    "div",
    { class: "tile", ...extra },
    h("p", { class: "tile-name" }, name),
    h("p", { class: "tile-large" }, large),
    h("p", { class: "tile-exact" }, below),
  );
}

/** Bytes in the unit that fits, and exactly, for a tile. */
export function byteTile(name, value, extra = {}, ...more) {
  const exact = whole(value);
  return tile(name, sized(exact), [`${grouped(exact)} bytes`, more], extra);
}

/** A link with the look of a batch id. */
export function batchLink(id) {
  return go(`?view=batch&id=${encodeURIComponent(id)}`, { class: "id" }, id);
}
