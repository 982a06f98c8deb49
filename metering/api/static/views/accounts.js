// The accounts of a month, each with its usage: one read, however many there are.

import { ask } from "../api.js";
import { go, h } from "../dom.js";
import { grouped, sized, sum, whole } from "../figures.js";
import { simpleForm } from "../form.js";
import { nothing, periods } from "../messages.js";
import { namesOf } from "../names.js";
import { changed, written } from "../state.js";
import { byteTile, card, table, tile } from "../table.js";
import { readable, rfc3339 } from "../times.js";
import { columnsOf } from "../tree.js";

export function accounts({ state, navigate, now_s }) {
  const month = state.extra.month || rfc3339(now_s).slice(0, 7);
  const asked = { month, sort: "bytes:desc", ...(state.extra.prefix ? { prefix: state.extra.prefix } : {}) };
  const form = simpleForm(
    [
      ["month", "Month (UTC)", month, "2026-11"],
      ["prefix", "Begins with", state.extra.prefix, "1234"],
    ],
    "Show",
    (extra) => navigate({ view: "accounts", extra }),
  );
  return {
    title: "Accounts",
    subtitle: `Usage of ${month} by account, the largest first`,
    form,
    async load(signal) {
      const answer = await ask("accounts", asked, { signal }).catch((problem) => {
        if (problem.status !== 422 || problem.errors.length) throw problem;
        // The list is kept once an hour. Until there is one, it is made by asking.
        return made(month, state.extra.prefix ?? "", signal);
      });
      const { accounts: names } = await namesOf();
      for (const row of answer.rows) row.label = names.get(row.account_id);
      const twin = { label: "Accounts", path: "accounts", asked };
      return { answer, parts: monthParts(answer, state, month), twins: [twin] };
    },
  };
}

async function made(month, prefix, signal) {
  const asked = { ...monthRange(month), group_by: "account_id", sort: "bytes:desc" };
  const answer = await ask("usage", asked, { signal });
  return { ...answer, rows: answer.rows.filter((row) => row.account_id.startsWith(prefix)), made: true };
}

function monthParts(answer, state, month) {
  const { rows } = answer;
  if (!rows.length) return [nothing(`No account has usage in ${month}.`)];
  const href = (row) =>
    written(changed(state, { view: "usage", account: row.account_id, by: "usage_type", ...monthRange(month) }));
  const given = (row) => h("span", { class: "given" }, row.label ?? "");
  const name = (row) => [go(href(row), { class: "id" }, row.account_id), " ", given(row)];
  const causes = (row) => written({ view: "who", account: row.account_id, ...monthRange(month) });
  const processed_bytes = (row) => {
    const size = whole(row.processed_bytes ?? 0);
    return size ? [`${sized(size)} `, go(causes(row), {}, "who?")] : "\u2013";
  };
  const columns = columnsOf(rows, { account_id: name, processed_bytes }).filter((column) => column.name !== "label");
  const at = columns.findIndex(({ name }) => name === "bytes");
  columns[at].wide = true;
  columns.splice(at, 0, { name: "bytes", title: "size", kind: "size" });
  for (const column of columns) if (column.name.endsWith("_hour")) column.wide = true;
  const total = sum(rows.map((row) => whole(row.bytes)));
  const records = String(sum(rows.map((row) => whole(row.records))));
  return [
    h(
      "div",
      { class: "tiles" },
      byteTile("Total", total, { id: "total", "data-bytes": String(total) }),
      tile("Accounts", grouped(rows.length), `${grouped(records)} records`),
      tile("State", periods(answer) ?? "\u2013", `as of ${readable(answer.as_of)} UTC`),
    ),
    card(
      "listing",
      "By account",
      table(columns, rows, { caption: "Accounts, the largest first" }),
      answer.made
        ? null
        : h("p", { class: "hint" }, "These sums are kept once an hour. What came since is on the usage page."),
    ),
  ];
}

function monthRange(month) {
  const [year, number] = month.split("-").map(Number);
  return { from: `${month}-01`, to: rfc3339(Date.UTC(year, number) / 1000).slice(0, 10) };
}
