// How things are: freshness for all; producers and what was refused for operators.

import { ask, page } from "../api.js";
import { go, h } from "../dom.js";
import { grouped, largestFirst, whole } from "../figures.js";
import { segments, simpleForm } from "../form.js";
import { badge, commandOf, holder, nothing } from "../messages.js";
import { written } from "../state.js";
import { batchLink, card, facts, table, tile } from "../table.js";
import { KINDS, REASONS } from "../reasons.js";
import { DAY_S, readable, seconds, short } from "../times.js";
import { columnsOf } from "../tree.js";

// Entries of quarantine on one page.
const MOST_ENTRIES = "200";

/** Up to when everything is counted, what holds it back, and what was last proved. */
export function freshness({ now_s }) {
  return {
    title: "Freshness",
    subtitle: "Up to when everything that was sent is counted",
    async load(signal) {
      const answer = await ask("freshness", {}, { signal });
      const twin = { label: "Freshness", path: "freshness", asked: {} };
      // The tiles say what the notice above other views says.
      return { answer: { ...answer, complete_through: undefined }, parts: fresh(answer, now_s), twins: [twin] };
    },
  };
}

function fresh({ complete_through: through, as_of, held_back_by: held, regions }, now_s) {
  const names = Object.keys(regions);
  const today_s = now_s - (now_s % DAY_S);
  const whole = seconds(through) >= today_s;
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
      tile("Yesterday", whole ? "complete" : "not complete", `${short(today_s - DAY_S)} UTC`, {
        id: "yesterday",
        class: `tile ${whole ? "" : "warn"}`,
      }),
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
  const choice = (label, words) => [
    label,
    written({ view: "sources", extra: words }),
    JSON.stringify(words) === JSON.stringify(asked),
  ];
  const choices = [choice("All", {}), choice("With gaps", { gaps: "true" }), choice("Silent", { silent: "true" })];
  const cells = {
    missing: (row) => (whole(row.missing) > 0n ? badge(grouped(row.missing), "bad") : "0"),
    silent: (row) => (row.silent ? badge("silent", "bad") : "no"),
  };
  return {
    title: "Sources",
    subtitle: "Producers, their last number, and what is missing",
    form: h("nav", { class: "card question", "aria-label": "Which sources" }, segments(choices)),
    async load(signal) {
      const answer = await ask("sources", asked, { signal });
      const empty = "No source matches. Sources are listed after the next pass of the reconciler.";
      return {
        answer,
        parts: [listing("Sources", sourceColumns(answer.rows, cells), answer.rows, empty)],
        twins: [{ label: "Sources", path: "sources", asked }],
      };
    },
  };
}

// Whether a source is silent, and what is missing, stands beside its name.
function sourceColumns(rows, cells) {
  const first = ["region", "source_id", "silent", "missing"];
  const place = ({ name }) => (first.includes(name) ? first.indexOf(name) : first.length);
  return columnsOf(rows, cells).sort((one, other) => place(one) - place(other));
}

/** Saved questions, each with the report that was made last. */
export function reports({ place }) {
  return {
    title: "Reports",
    subtitle: "Saved questions, whose reports are made each day, week or month",
    async load(signal) {
      const answer = await ask("reports", {}, { signal });
      const twins = [{ label: "Reports", path: "reports", asked: {} }];
      const where = `--region ${place.regions.split(",")[0]} --stage ${place.stage}`;
      const example = `metering reports add weekly --every week --group-by account_id ${where}`;
      const none = nothing("No question is saved", [commandOf(example)], "Whoever runs the service saves one:");
      const columns = [
        { name: "report", cell: (row) => h("span", { class: "id" }, row.report) },
        { name: "every" },
        { name: "last", title: "last report" },
        { name: "state", cell: (row) => badge(row.state, row.refused ? "bad" : "") },
        { name: "question", kind: "prose", cell: (row) => h("code", {}, row.question) },
        { name: "open", title: "to open it", kind: "prose", wide: true, cell: (row) => opening(row, where) },
      ];
      const list = listing("Saved questions", columns, answer.rows, "");
      return { answer, parts: [answer.rows.length ? list : none], twins };
    },
  };
}

function opening({ report, last, refused }, where) {
  if (refused) return refused;
  return last ? commandOf(`metering reports show ${report} --html ${report}.html ${where}`) : "not made yet";
}

function listing(title, columns, rows, empty, more = "") {
  return card("listing", `${title} (${grouped(rows.length)}${more})`, table(columns, rows, { caption: title, empty }));
}

/** What was refused, and why: page by page, because each entry is an object that is read. */
export function quarantine({ state, navigate, now_s }) {
  const asked = {};
  for (const name of ["from", "to"]) if (state[name]) asked[name] = state[name];
  for (const name of ["reason", "kind"]) if (state.extra[name]) asked[name] = state.extra[name];
  const { cursor, reason, kind } = state.extra;
  const choice = (label, days) => {
    const from = days && short(now_s - (now_s % DAY_S) - (days - 1) * DAY_S);
    const href = written({ view: "quarantine", from, extra: { reason, kind } });
    return [label, href, (state.from ?? "") === from && !state.to];
  };
  const form = simpleForm(
    [
      ["from", "From (UTC)", state.from],
      ["to", "Until (UTC, excluded)", state.to],
      ["reason", "Reason", reason, "invalid_account_id", REASONS],
      ["kind", "Kind", kind, KINDS.join(", "), KINDS],
    ],
    "Show",
    ({ from, to, ...extra }) => navigate({ view: "quarantine", from, to, extra }),
    segments([choice("Today", 1), choice("7 days", 7), choice("All", "")]),
  );
  return {
    title: "Quarantine",
    subtitle: "What was refused, and why, the newest first",
    form,
    async load(signal) {
      const answer = await page("quarantine", { ...asked, limit: MOST_ENTRIES, ...(cursor ? { cursor } : {}) }, signal);
      const list = listing(
        "Refused",
        refusedColumns(answer.rows),
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
      const parts = [why(answer.rows, state), list, older ? h("p", { class: "actions" }, older) : null];
      return { answer, parts, twins: [twin] };
    },
  };
}

// The reasons of all that is listed, the most frequent first; each leads to its entries.
function why(rows, state) {
  const counts = new Map();
  for (const row of rows)
    for (const [name, count] of reasonsOf(row)) counts.set(name, (counts.get(name) ?? 0n) + BigInt(count ?? 1));
  if (!counts.size) return null;
  const ordered = [...counts].sort(([, one], [, other]) => largestFirst(one, other));
  const link = ([name, count]) =>
    go(
      written({ view: "quarantine", from: state.from, to: state.to, extra: { kind: state.extra.kind, reason: name } }),
      { class: "chip" },
      `${name}: ${grouped(count)}`,
    );
  return card("why", "Why", h("p", { class: "chips" }, ordered.map(link)));
}

function reasonsOf(row) {
  const texts = String(row.reasons ?? "").split(/[,;] /);
  return texts.filter(Boolean).map((text) => /^(.*?)(?: \((\d+)\))?$/.exec(text).slice(1));
}

function refusedColumns(rows) {
  const one = ([name, count]) => [badge(count ? `${name} (${count})` : name, "bad"), " "];
  const badges = (row) => reasonsOf(row).map(one);
  const named = (row) => (row.batch_id ? batchLink(row.batch_id) : h("code", {}, row.key));
  const known = new Set(rows.flatMap((row) => Object.keys(row).filter((name) => row[name])));
  const others = ["sender", "source"].map((name) => ({ name, kind: "mono", wide: true }));
  return [
    { name: "batch_id", title: "batch", kind: "mono", cell: named },
    { name: "at", title: "at (UTC)", kind: "time", order: (row) => row.at },
    { name: "reasons", kind: "prose", cell: badges },
    { name: "records", kind: "integer", order: (row) => BigInt(row.records ?? 0) },
    { name: "became", kind: "prose" },
    { name: "retried_as", title: "retried as", kind: "mono" },
    { name: "kind", wide: true },
    ...others,
  ].filter(({ name }) => known.has(name) || name === "batch_id");
}
