// What is said in place of figures, or above them: each says what to do.

import { Problem } from "./api.js";
import { copyButton, go, h, words } from "./dom.js";
import { grouped } from "./figures.js";
import { readable, seconds } from "./times.js";

const CURRENT = "current";
const TOKEN = "What you may see depends on a token. It stays in this tab, and goes when you close it.";
const SIGN_IN = "What you may see depends on your groups. Whoever has a token opens the page with it.";
const PASTED = "What your organisation's sign-in gave you works here, too, if this stage has one.";
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
  if (view === "cost" && /price book/.test(detail) && !errors.length)
    return go("?view=cost&prices=sample", { class: "button" }, "Show with the sample prices");
  if (status === 403) return go("?view=usage", { class: "button" }, "Back to usage");
  if (status === 422 && (view === "usage" || view === "cost"))
    return go(`?view=${view}&range=24h`, { class: "button" }, "Show the last 24 hours");
  return null;
}

/** Nothing was found, which is no failure. */
export function nothing(text, links = []) {
  return h(
    "div",
    { class: "card nothing" },
    h("p", { class: "nothing-title" }, text),
    h(
      "p",
      { class: "actions" },
      links.map(([label, href]) => go(href, { class: "button" }, label)),
    ),
  );
}

/** What costs tell beside costs, to who may see some accounts of a payer. */
export function sharedTiers() {
  const text = "All accounts of a payer share its tiers: where one ends, what you pay tells what the others use.";
  return h("p", { class: "hint", id: "shared-tiers" }, text);
}

/** Asks for a token, or to sign in at a provider. `why` says why the token that was there is not enough. */
export function signIn(why, onToken, place, provider) {
  const field = h("input", {
    id: "token",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    "aria-describedby": "token-help",
    placeholder: "mtr_\u2026",
  });
  const where = `--region ${place.regions.split(",")[0]} --stage ${place.stage}`;
  const made = `metering token create --role analyst --days 30 ${where}`;
  const served = `metering serve ${where}`;
  return h(
    "form",
    {
      class: "card sign-in",
      onsubmit: (event) => {
        event.preventDefault();
        onToken(field.value.trim());
      },
    },
    h("h1", { tabindex: "-1", id: "title" }, provider ? "Sign in" : "A token, please"),
    h("p", { role: provider && why ? "alert" : null }, why || (provider ? SIGN_IN : TOKEN)),
    provider
      ? h("button", { type: "button", class: "primary", onclick: provider.go }, `Sign in at ${provider.host}`)
      : null,
    h("label", { for: "token" }, "Token"),
    h("div", { class: "joined" }, field, h("button", { type: "submit", class: provider ? null : "primary" }, "Open")),
    h(
      "div",
      { class: "help", id: "token-help" },
      h("p", {}, "No token yet? Whoever runs the service makes one:"),
      commandOf(made),
      h("p", {}, "With access to the AWS account, none is needed. This opens the page with its own:"),
      commandOf(served),
      provider ? null : h("p", {}, PASTED),
    ),
  );
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
