// How things are: freshness for all; producers and what was refused for operators; the accounts of a month.

import { ask } from "../api.js";
import { go, h } from "../dom.js";
import { GB_IN_WORDS, grouped, sum, whole } from "../figures.js";
import { field } from "../form.js";
import { badge, holder, nothing, periods } from "../messages.js";
import { changed, written } from "../state.js";
import { batchLink, byteTile, table, tile } from "../table.js";
import { readable, rfc3339 } from "../times.js";
import { columnsOf, tree } from "../tree.js";

/** Up to when everything is counted, and what holds it back. */
export function freshness({ offered, role }) {
  return {
    title: "Freshness",
    subtitle: "Up to when everything that was sent is counted",
    async load(signal) {
      const operator = offered.includes("reconciliation") && (role === "operator" || role === "");
      const [answer, reconciliation] = await Promise.all([
        ask("freshness", {}, { signal }),
        operator ? ask("reconciliation", {}, { signal }).catch(() => null) : null,
      ]);
      return {
        answer,
        parts: fresh(answer, reconciliation),
        twins: [{ label: "Freshness", path: "freshness", asked: {} }],
      };
    },
  };
}

function fresh(answer, reconciliation) {
  const held = answer.held_back_by ?? [];
  const { complete_through, as_of, held_back_by, periods: _states, query: _query, rows, ...rest } = answer;
  return [
    h(
      "div",
      { class: "tiles" },
      tile(
        "Complete through",
        [readable(complete_through ?? ""), h("span", { class: "unit" }, " UTC")],
        as_of ? `as of ${readable(as_of)} UTC` : "",
        { id: "complete-through", class: `tile ${held.length ? "warn" : "good"}` },
      ),
      tile(
        "Held back by",
        held.length ? grouped(held.length) : "nothing",
        held.length ? "see below" : "everything known to be sent is counted",
      ),
      periods(answer) ? tile("Months", periods(answer), "") : null,
    ),
    held.length
      ? h(
          "section",
          { class: "card", "aria-labelledby": "held" },
          h("h2", { id: "held" }, "What holds it back"),
          h("ul", { class: "plain" }, held.map(holder)),
        )
      : null,
    rows?.length
      ? h(
          "section",
          { class: "card", "aria-labelledby": "figures" },
          h("h2", { id: "figures" }, "Details"),
          table(columnsOf(rows), rows, { caption: "Freshness" }),
        )
      : null,
    Object.keys(rest).length
      ? h(
          "section",
          { class: "card", "aria-labelledby": "checks" },
          h("h2", { id: "checks" }, "Last checks"),
          tree(rest, 0),
        )
      : null,
    reconciliation
      ? h(
          "section",
          { class: "card", "aria-labelledby": "reconciliation" },
          h("h2", { id: "reconciliation" }, "Last reconciliation"),
          tree(reconciliation, 0),
        )
      : null,
  ];
}

/** Who sends, and whether numbers are missing. */
export function sources({ state }) {
  const asked = {};
  for (const name of ["gaps", "silent"]) if (state.extra[name]) asked[name] = "true";
  const choices = [
    ["All", {}],
    ["With gaps", { gaps: "true" }],
    ["Silent", { silent: "true" }],
  ];
  const form = segments("Which sources", choices, "sources", asked);
  return {
    title: "Sources",
    subtitle: "Producers, their last number, and what is missing",
    form,
    async load(signal) {
      const answer = await ask("sources", asked, { signal });
      const columns = columnsOf(answer.rows).map((column) =>
        column.name === "missing"
          ? { ...column, cell: (row) => (row.missing ? badge(grouped(row.missing), "bad") : "0") }
          : column.name === "silent"
            ? { ...column, cell: (row) => (row.silent ? badge("silent", "bad") : "no") }
            : column,
      );
      return {
        answer,
        parts: [listing("Sources", columns, answer.rows, "No source matches.")],
        twins: [{ label: "Sources", path: "sources", asked }],
      };
    },
  };
}

function segments(label, choices, view, asked) {
  const links = choices.map(([name, words]) => {
    const current = JSON.stringify(words) === JSON.stringify(asked);
    return go(written({ view, extra: words }), { class: "segment", "aria-current": current ? "true" : null }, name);
  });
  return h("nav", { class: "card question ranges", "aria-label": label }, h("div", { class: "segments" }, links));
}

function listing(title, columns, rows, empty) {
  return h(
    "section",
    { class: "card", "aria-labelledby": "listing" },
    h("h2", { id: "listing" }, `${title} (${grouped(rows.length)})`),
    table(columns, rows, { caption: title, empty }),
  );
}

/** What was refused, and why. */
export function quarantine({ state, navigate }) {
  const asked = {};
  for (const name of ["from", "to"]) if (state[name]) asked[name] = state[name];
  for (const name of ["reason", "kind"]) if (state.extra[name]) asked[name] = state.extra[name];
  const fields = {};
  const form = h(
    "form",
    {
      class: "card question",
      novalidate: true,
      onsubmit: (event) => {
        event.preventDefault();
        const { from, to, ...extra } = Object.fromEntries(
          Object.entries(fields).map(([name, input]) => [name, input.value.trim()]),
        );
        navigate({ view: "quarantine", from, to, extra });
      },
    },
    h(
      "div",
      { class: "fields" },
      field(fields, "from", "From (UTC)", state.from || "", "2026-11-24"),
      field(fields, "to", "Until (UTC, not included)", state.to || "", "2026-11-25"),
      field(fields, "reason", "Reason", state.extra.reason || "", "invalid_account_id"),
      field(fields, "kind", "Kind", state.extra.kind || "", "records or batch"),
    ),
    h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Show")),
  );
  return {
    title: "Quarantine",
    subtitle: "What was refused, and why",
    form,
    async load(signal) {
      const answer = await ask("quarantine", asked, { signal });
      const columns = columnsOf(answer.rows).map((column) =>
        column.name === "batch_id" ? { ...column, cell: (row) => batchLink(row.batch_id) } : column,
      );
      return {
        answer,
        parts: [listing("Refused", columns, answer.rows, "Nothing was refused in this range.")],
        twins: [{ label: "Quarantine", path: "quarantine", asked }],
      };
    },
  };
}

/** The accounts of a month, each with its usage. */
export function accounts({ state, navigate, now_s }) {
  const month = state.extra.month || rfc3339(now_s).slice(0, 7);
  const asked = { month, ...(state.extra.prefix ? { prefix: state.extra.prefix } : {}) };
  const fields = {};
  const form = h(
    "form",
    {
      class: "card question",
      novalidate: true,
      onsubmit: (event) => {
        event.preventDefault();
        navigate({ view: "accounts", extra: { month: fields.month.value.trim(), prefix: fields.prefix.value.trim() } });
      },
    },
    h(
      "div",
      { class: "fields" },
      field(fields, "month", "Month (UTC)", month, "2026-11"),
      field(fields, "prefix", "Begins with", state.extra.prefix || "", "1234"),
    ),
    h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Show")),
  );
  return {
    title: "Accounts",
    subtitle: `Usage of ${month} by account`,
    form,
    async load(signal) {
      const answer = await ask("accounts", asked, { signal });
      const rows = answer.rows ?? [];
      if (!rows.length) return { answer, parts: [nothing(`No account has usage in ${month}.`)] };
      const open = (row) =>
        go(
          written(
            changed(state, {
              view: "usage",
              account: row.account_id,
              by: "usage_type",
              from: `${month}-01`,
              to: "",
              ...until(month),
            }),
          ),
          { class: "id" },
          row.account_id,
        );
      const columns = columnsOf(rows).map((column) =>
        column.name === "account_id" ? { ...column, title: "account", cell: open } : column,
      );
      const at = columns.findIndex(({ name }) => name === "bytes");
      columns.splice(at + 1, 0, { name: "bytes", title: GB_IN_WORDS, kind: "gb" });
      const total = sum(rows.map((row) => whole(row.bytes)));
      return {
        answer,
        parts: [
          h(
            "div",
            { class: "tiles" },
            byteTile("Total", total, { id: "total", "data-bytes": String(total) }),
            tile("Accounts", grouped(rows.length), answer.as_of ? `as of ${readable(answer.as_of)} UTC` : ""),
          ),
          listing("Accounts", columns, rows, ""),
        ],
        twins: [{ label: "Accounts", path: "accounts", asked }],
      };
    },
  };
}

function until(month) {
  const [year, number] = month.split("-").map(Number);
  return { to: rfc3339(Date.UTC(year, number) / 1000).slice(0, 10) };
}
