// Rows of an answer as layers that lie on each other: the largest by name, the others as one.

import { largestFirst } from "./figures.js";
import { unitName } from "./times.js";

export const MOST = 5;
export const OTHER = "other";

/**
 * Layers of a stack, the largest first, each with one exact value a step.
 *
 * @param rows rows of the answer
 * @param unit column of times in them, and `at`, the beginnings of all its steps in order
 * @param name column that the layers are named by
 * @param valueOf exact value of a row
 * @param order names in the order of the table beside it; others follow, the largest first
 * @returns `[{name, total, values}]`; the last is `other` if there are more than `most`
 */
export function layers(rows, { unit, at, name, valueOf, order = [], most = MOST }) {
  const place = new Map(at.map((value_s, index) => [unitName(unit, value_s), index]));
  const found = new Map();
  for (const row of rows) {
    const index = place.get(row[unit]);
    // A row outside of the steps would be in the table and not in the picture.
    if (index === undefined) throw new RangeError(`${row[unit]} is not in the range`);
    const key = String(row[name] ?? "");
    if (!found.has(key)) found.set(key, { name: key, total: 0n, values: at.map(() => 0n) });
    const layer = found.get(key);
    const value = valueOf(row);
    layer.total += value;
    layer.values[index] += value;
  }
  const rank = new Map(order.map((key, index) => [key, index]));
  const ordered = [...found.values()].sort(
    (one, other) =>
      (rank.get(one.name) ?? rank.size) - (rank.get(other.name) ?? rank.size) ||
      largestFirst(one.total, other.total) ||
      (one.name < other.name ? -1 : 1),
  );
  if (ordered.length <= most + 1) return ordered;
  const rest = ordered.slice(most);
  const other = { name: OTHER, count: rest.length, total: 0n, values: at.map(() => 0n) };
  for (const layer of rest) {
    other.total += layer.total;
    layer.values.forEach((value, index) => (other.values[index] += value));
  }
  return [...ordered.slice(0, most), other];
}

/** Exact sum of all layers at each step. */
export function sums(stack) {
  return (stack[0]?.values ?? []).map((_, index) => stack.reduce((total, layer) => total + layer.values[index], 0n));
}

/**
 * What is drawn, from the back to the front: the heights of all layers, then of all but the last, and so on. The
 * largest layer lies at the bottom and is drawn last. Each line repeats its last height, so that the last step is wide.
 */
export function heights(stack, per) {
  const below = stack.map((layer) => layer.values.map(() => 0));
  const running = stack[0]?.values.map(() => 0n) ?? [];
  stack.forEach((layer, depth) => {
    layer.values.forEach((value, index) => {
      running[index] += value;
      below[depth][index] = Number(running[index]) / Number(per);
    });
    below[depth].push(below[depth].at(-1) ?? 0);
  });
  return below.reverse();
}
