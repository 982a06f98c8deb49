// Budgets: what is used, what is expected, and which breaks first.

import { ask } from "../api.js";
import { h } from "../dom.js";
import { cents, grouped, percent, scaled, sized, unscaled, whole } from "../figures.js";
import { badge, commandOf, nothing } from "../messages.js";
import { card, table, tile } from "../table.js";
import { following, readable, rfc3339, seconds } from "../times.js";

const PLACES = 10;

export function budgets({ now_s, place }) {
  return {
    title: "Budgets",
    subtitle: "What is used and expected in their periods; which breaks first stands first",
    async load(signal) {
      const answer = await ask("budgets", {}, { signal });
      const rows = answer.rows.map((row) => judged(row, now_s)).sort((one, other) => one.at_s - other.at_s);
      const twins = [{ label: "Budgets", path: "budgets", asked: {} }];
      const parts = rows.length ? standing(answer, rows) : [none(place)];
      // What the tiles say of completeness is that of the biller.
      return { answer: { ...answer, complete_through: undefined }, parts, twins };
    },
  };
}

function none({ regions, stage }) {
  const where = `--region ${regions.split(",")[0]} --stage ${stage}`;
  const example = `metering budget set egress --account 123456789012 --amount "100 USD" ${where}`;
  return nothing("No budget is set", [commandOf(example)], "Whoever runs the service sets one:");
}

// When an even pace from now to the forecast comes to the amount; the end of time if it does not.
function judged(row, now_s) {
  const value = (text) => (text === null ? null : row.unit === "bytes" ? whole(text) : scaled(text, PLACES));
  const [amount, actual, forecast] = [row.amount, row.actual, row.forecast].map(value);
  const unit = row.period.length > 7 ? "day" : "month";
  const end_s = following(unit, seconds(row.period));
  const known = row.unit === "bytes" ? sized : (figure) => `${cents(unscaled(figure, PLACES))} USD`;
  const shown = (figure) => (figure === null ? "\u2013" : known(figure));
  let at_s = Infinity;
  if (actual !== null && actual >= amount) at_s = -Number((actual * 1000n) / (amount || 1n));
  else if (forecast !== null && forecast >= amount && forecast > actual)
    at_s = now_s + Number(((amount - actual) * BigInt(Math.max(end_s - now_s, 0))) / (forecast - actual));
  return { ...row, values: { amount, actual, forecast }, at_s, shown };
}

function when({ at_s }) {
  if (at_s < 0) return badge("is over", "bad");
  if (at_s === Infinity) return "not expected";
  return badge(`about ${rfc3339(at_s).slice(0, 10)}`, "current");
}

function standing(answer, rows) {
  const figure = (name, title, wide = false) => ({
    name,
    title,
    kind: "number",
    wide,
    order: (row) => row.values[name] ?? 0n,
    cell: (row) => row.shown(row.values[name]),
  });
  const used = ({ values: { actual, amount } }) => {
    if (actual === null || !amount) return "\u2013";
    const part = Number((actual * 1000n) / amount) / 10;
    return h("span", { class: "share", "--share": `${Math.min(Math.max(part, 0), 100)}%` }, percent(actual, amount));
  };
  const columns = [
    { name: "budget", cell: (row) => h("span", { class: "id" }, row.budget) },
    { name: "breaks", cell: when },
    { name: "used", cell: used },
    figure("actual", "used so far"),
    figure("amount", "amount"),
    figure("forecast", "expected", true),
    { name: "scope", kind: "prose" },
    { name: "period", wide: true },
    { name: "crossed", kind: "prose", wide: true },
  ];
  const first = rows[0].at_s === Infinity ? null : rows[0];
  return [
    h(
      "div",
      { class: "tiles" },
      tile(
        first && first.at_s > 0 ? "Breaks first" : first ? "Over, the most first" : "Breaks first",
        first ? first.budget : "none",
        first ? [first.scope, when(first)] : "nothing is expected to break in its period",
        { id: "first", class: `tile ${first ? "warn" : ""}` },
      ),
      tile("Budgets", grouped(rows.length), `${grouped(rows.filter(({ at_s }) => at_s < 0).length)} over`),
      tile("Counted", answer.as_of ? `${readable(answer.as_of)} UTC` : "not yet", `prices ${answer.prices || "none"}`),
    ),
    card(
      "listing",
      "By the time at which they break",
      table(columns, rows, { caption: "Budgets, the one that breaks first at the top" }),
      h("p", { class: "hint" }, "A forecast is an estimate; the day is that of an even pace from now to the forecast."),
    ),
  ];
}
