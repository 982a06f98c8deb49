// What usage and cost count, and places for what comes later.

import { h } from "../dom.js";
import { cents, scaled, sized, unitOfSize, unscaled, whole } from "../figures.js";

export const USD_PLACES = 10;
const USD = 10n ** BigInt(USD_PLACES);
/** What is counted by a view: how a row's exact value is read and written, and the unit of the axis. */
export const MEASURES = {
  usage: {
    title: "Usage",
    what: "Bytes",
    axis: unitOfSize,
    valueOf: (row) => whole(row.bytes),
    shown: sized,
  },
  cost: {
    title: "Cost",
    what: "USD",
    axis: () => ({ per: USD, name: "USD" }),
    // Without a price there is nothing to draw; the page says so first.
    valueOf: (row) => ((row.cost_usd ?? null) === null ? 0n : scaled(row.cost_usd, USD_PLACES)),
    shown: (value) => `${cents(unscaled(value, USD_PLACES))} USD`,
  },
};

/** A place for what is known only once the period before has come. */
export function spot({ spots }, key, className = "change") {
  const made = h("span", { class: className });
  if (!spots.has(key)) spots.set(key, []);
  spots.get(key).push(made);
  return made;
}

/** Says at all places of a key what is known now. */
export function fillSpots({ spots }, key, said) {
  for (const each of spots.get(key) ?? []) each.replaceChildren(said);
}
