// What is said in place of figures, or above them: each says what to do.

import { Problem } from "./api.js";
import { copyButton, go, h, words } from "./dom.js";
import { grouped } from "./figures.js";
import { readable, seconds } from "./times.js";

const CURRENT = "current";
// Asked again as it is, such a request is refused again.
const UNCHANGED = new Set([400, 403, 404]);

/** A notice above the figures if their range is not counted to its end. */
export function completeness(answer) {
  const through = answer.complete_through;
  if (!through) return null;
  const end_s = Math.min(seconds(answer.query?.to) ?? Infinity, seconds(answer.as_of) ?? Infinity);
  const closed = Object.values(answer.periods ?? {});
  const final = closed.length > 0 && closed.every((state) => ["closed", "invoice"].includes(state));
  if (!answer.waiting && (final || seconds(through) >= end_s)) return null;
  const held = answer.held_back_by ?? [];
  const known = seconds(through) > 0 ? `through ${readable(through)} UTC` : "up to an hour that is not known yet";
  const words = [
    h("strong", {}, held.length ? "This range is not complete." : "This range is still running."),
    ` Counted ${known}.`,
  ];
  return h(
    "div",
    { class: `banner ${held.length ? "warn" : "calm"}`, id: "banner", role: "note" },
    h("p", {}, words),
    answer.waiting ? h("p", {}, waits(answer.waiting)) : null,
    held.length ? h("ul", {}, held.map(holder)) : null,
  );
}

// What of the accounts is accepted, and in no figure yet.
function waits({ bytes, since }) {
  const what = bytes == null ? "What may be of these accounts" : `${grouped(bytes)} bytes of these accounts`;
  return `Not counted yet: ${what}, accepted since ${readable(since)} UTC. Ask again in a minute.`;
}

/** One thing that holds completeness back, and the command that cures it. */
export function holder({ what, since, cure }) {
  const when = since ? ` since ${readable(since)}` : "";
  const command = cure?.startsWith("metering ");
  return h("li", {}, `Held back by ${what}${when}. `, cure ? (command ? commandOf(cure) : h("span", {}, cure)) : null);
}

export function commandOf(text) {
  return h("span", { class: "cure" }, h("code", {}, words(text)), copyButton(text, "the command"));
}

/** Places where figures will be. */
export function loading() {
  return h(
    "div",
    { class: "loading", role: "status" },
    h("span", { class: "hidden" }, "Loading"),
    ["tall", "", "", "short"].map((size) => h("div", { class: `bone ${size}` })),
  );
}

/** Nothing is there yet, which is no failure: null for a problem that is one. */
export function notYet({ status, detail, errors }, { view, prices }) {
  if (view !== "cost" || prices || status !== 422 || errors?.length || !/no .*price book/.test(detail)) return null;
  const words = "Costs need prices. Whoever runs the service imports a price book; the sample has AWS's list prices.";
  const button = go("?view=cost&prices=sample", { class: "button primary" }, "Show with the sample prices");
  return nothing("There is no price book yet", [button], words);
}

/** A failure in words, and what can be done. */
export function failure(problem, { again, view }) {
  const known =
    problem instanceof Problem
      ? problem
      : new Problem({ title: "This page failed", detail: String(problem.message ?? problem) });
  const several = known.errors.some(({ detail }) => detail !== known.detail);
  // Often the sentence about all is those about each, one after the other: once is enough.
  const listed = several && known.errors.every(({ detail }) => known.detail.includes(detail));
  const wait = known.retry_s ? ` Try again in ${known.retry_s} seconds.` : "";
  return h(
    "div",
    { class: "card problem", role: "alert" },
    h("h2", {}, known.title || "It did not work"),
    listed && !wait ? null : h("p", {}, listed ? "" : sentence(known.detail), wait),
    several
      ? h(
          "ul",
          {},
          known.errors.map(({ parameter, detail }) => h("li", {}, h("code", {}, parameter), ` ${detail}`)),
        )
      : null,
    h(
      "p",
      { class: "actions" },
      advice(known, view),
      again && !UNCHANGED.has(known.status) ? h("button", { type: "button", onclick: again }, "Try again") : null,
    ),
  );
}

// A command at the end of a sentence can be copied.
function sentence(text) {
  const [, words, command] = /^(.*): (metering [^.]+)$/s.exec(text) ?? [];
  return command ? [`${words}: `, commandOf(command)] : text;
}

function advice({ status, detail, errors }, view) {
  if (status === 403 && view === "cost" && errors.some(({ parameter }) => parameter === "group_by"))
    return go("?view=cost", { class: "button" }, "Show costs without tiers");
  if (view === "cost" && status === 422 && /price book/.test(detail))
    return go("?view=cost&prices=sample", { class: "button" }, "Show with the sample prices");
  if (status === 403) return go("?view=usage", { class: "button" }, "Back to usage");
  if (status === 422 && (view === "usage" || view === "cost"))
    return go(`?view=${view}&range=24h`, { class: "button" }, "Show the last 24 hours");
  return null;
}

/** Nothing was found, which is no failure. `links` are elements, or `[label, href]`. */
export function nothing(title, links = [], words = "") {
  const made = links.map((link) => (Array.isArray(link) ? go(link[1], { class: "button" }, link[0]) : link));
  return h(
    "div",
    { class: "card nothing" },
    h("p", { class: "nothing-title" }, title),
    words ? h("p", { class: "soft" }, words) : null,
    made.length ? h("p", { class: "actions" }, made) : null,
  );
}

/** What costs tell beside costs, to who may see some accounts of a payer. */
export function sharedTiers() {
  const text = "All accounts of a payer share its tiers: where one ends, what you pay tells what the others use.";
  return h("p", { class: "hint", id: "shared-tiers" }, text);
}

/** A word that says how things are. */
export function badge(text, mood = CURRENT) {
  return h("span", { class: `badge ${mood}` }, text);
}

/** State of each month of an answer. */
export function periods(answer) {
  const states = Object.entries(answer.periods ?? {});
  if (!states.length) return null;
  const shown = states.length > 3 ? [states[0], ["\u2026", ""], states.at(-1)] : states;
  return shown.map(([month, state]) =>
    h(
      "span",
      { class: "period" },
      month,
      state ? badge(state, ["closed", "invoice"].includes(state) ? "good" : CURRENT) : "",
    ),
  );
}
