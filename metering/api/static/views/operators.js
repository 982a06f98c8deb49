// How things are: freshness for all; producers and what was refused for operators.

import { ask, page } from "../api.js";
import { go, h } from "../dom.js";
import { grouped, whole } from "../figures.js";
import { simpleForm } from "../form.js";
import { badge, holder } from "../messages.js";
import { written } from "../state.js";
import { batchLink, card, facts, table, tile } from "../table.js";
import { readable } from "../times.js";
import { columnsOf } from "../tree.js";

// Entries of quarantine on one page.
const MOST_ENTRIES = "200";

/** Up to when everything is counted, what holds it back, and what was last proved. */
export function freshness() {
  return {
    title: "Freshness",
    subtitle: "Up to when everything that was sent is counted",
    async load(signal) {
      const answer = await ask("freshness", {}, { signal });
      const twin = { label: "Freshness", path: "freshness", asked: {} };
      // The tiles say what the notice above other views says.
      return { answer: { ...answer, complete_through: undefined }, parts: fresh(answer), twins: [twin] };
    },
  };
}

function fresh({ complete_through: through, as_of, held_back_by: held, regions }) {
  const names = Object.keys(regions);
  return [
    h(
      "div",
      { class: "tiles" },
      tile(
        "Complete through",
        [readable(through), h("span", { class: "unit" }, " UTC")],
        `as of ${readable(as_of)} UTC`,
        { id: "complete-through", class: `tile ${held.length ? "warn" : ""}` },
      ),
      tile(
        "Held back by",
        held.length ? `${grouped(held.length)} ${held.length === 1 ? "thing" : "things"}` : "nothing",
        held.length ? "each with its cure below" : "everything that is known to be sent is counted",
      ),
    ),
    held.length ? card("held", "What holds it back", h("ul", { class: "plain" }, held.map(holder))) : null,
    names.map((name) => ("reconciliation" in regions[name] ? proved(name, regions[name], names.length > 1) : null)),
  ];
}

function proved(name, { complete_through: through, reconciliation, canary }, several) {
  const compared = reconciliation
    ? [
        badge(reconciliation.differences ? "differs" : "equal", reconciliation.differences ? "bad" : "good"),
        ` ${grouped(reconciliation.hours)} hours compared, finished ${readable(reconciliation.finished)} UTC, `,
        `${grouped(reconciliation.differences)} differences`,
        reconciliation.waiting ? `, ${grouped(reconciliation.waiting)} waiting` : "",
      ]
    : "not yet";
  const sent = canary
    ? [
        badge(canary.verdict, canary.verdict === "good" ? "good" : "bad"),
        ` settled ${readable(canary.settled)} UTC`,
        canary.last_good && canary.verdict !== "good" ? `, last good ${readable(canary.last_good)} UTC` : "",
      ]
    : "not yet";
  return card(
    `proved-${name}`,
    `Last proofs of ${name}`,
    facts([
      [several ? "Complete through" : "", several ? `${readable(through)} UTC` : ""],
      ["Reconciliation", h("span", {}, compared)],
      ["Canary", h("span", {}, sent)],
    ]),
  );
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
  const cells = {
    missing: (row) => (whole(row.missing) > 0n ? badge(grouped(row.missing), "bad") : "0"),
    silent: (row) => (row.silent ? badge("silent", "bad") : "no"),
  };
  return {
    title: "Sources",
    subtitle: "Producers, their last number, and what is missing",
    form: segments("Which sources", choices, "sources", asked),
    async load(signal) {
      const answer = await ask("sources", asked, { signal });
      const empty = "No source matches. Sources are listed after the next pass of the reconciler.";
      return {
        answer,
        parts: [listing("Sources", columnsOf(answer.rows, cells), answer.rows, empty)],
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

function listing(title, columns, rows, empty, more = "") {
  return card("listing", `${title} (${grouped(rows.length)}${more})`, table(columns, rows, { caption: title, empty }));
}

/** What was refused, and why: page by page, because each entry is an object that is read. */
export function quarantine({ state, navigate }) {
  const asked = {};
  for (const name of ["from", "to"]) if (state[name]) asked[name] = state[name];
  for (const name of ["reason", "kind"]) if (state.extra[name]) asked[name] = state.extra[name];
  const { cursor } = state.extra;
  const form = simpleForm(
    [
      ["from", "From (UTC)", state.from, "2026-11-24"],
      ["to", "Until (UTC, not included)", state.to, "2026-11-25"],
      ["reason", "Reason", state.extra.reason, "invalid_account_id"],
      ["kind", "Kind", state.extra.kind, "records or conflict"],
    ],
    "Show",
    ({ from, to, ...extra }) => navigate({ view: "quarantine", from, to, extra }),
  );
  return {
    title: "Quarantine",
    subtitle: "What was refused, and why, the newest first",
    form,
    async load(signal) {
      const answer = await page("quarantine", { ...asked, limit: MOST_ENTRIES, ...(cursor ? { cursor } : {}) }, signal);
      const cells = { batch_id: (row) => batchLink(row.batch_id) };
      const list = listing(
        "Refused",
        columnsOf(answer.rows, cells),
        answer.rows,
        "Nothing was refused in this range.",
        answer.next || cursor ? " on this page" : "",
      );
      const older = answer.next
        ? go(
            written({ ...state, extra: { ...state.extra, cursor: answer.next } }),
            { class: "button" },
            "Older entries",
          )
        : null;
      const twin = { label: "Quarantine", path: "quarantine", asked };
      return { answer, parts: [list, older ? h("p", { class: "actions" }, older) : null], twins: [twin] };
    },
  };
}
