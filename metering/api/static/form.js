// The question of a view, as native controls. Whatever is chosen becomes the address.

import { ask } from "./api.js";
import { go, h } from "./dom.js";
import { DECLARED } from "./filters.js";
import { changed, FILTERS, moved, rangeOf, UNITS, WORDS, written } from "./state.js";
import { RANGES, rfc3339, short, unitOf } from "./times.js";

const PATTERNS = { account: /^\d{12}(,\d{12})*$/ };
// Suggestions that a field has at most.
const MOST_SUGGESTED = 200;
const DWELL_MS = 300;

/** Ranges by name, and steps back and forth; `extra` are words of the address that stay. */
export function ranges(state, now_s, extra = {}) {
  const range = rangeOf(state, now_s);
  const known = !Object.keys(range.problems).length;
  const named = Object.entries(RANGES).map(([name, label]) => [
    label,
    written(changed(state, { range: name, from: "", to: "", per: "", extra })),
    range.name === name,
  ]);
  const step = (times, label, arrow) => {
    const words = `${label}, by the length of this range`;
    return go(written({ ...moved(state, range, times), extra }), { class: "step", "aria-label": words }, arrow);
  };
  const steps = known ? [step(-1, "Earlier", "\u2190"), range.to_s <= now_s ? step(1, "Later", "\u2192") : null] : [];
  const inside = [segments(named), h("div", { class: "steps" }, steps)];
  return h("nav", { class: "ranges", "aria-label": "Time range" }, inside);
}

/** Links of which one is where we are: `[[label, href, current]]`. */
export function segments(choices) {
  const links = choices.map(([label, href, current]) =>
    go(href, { class: "segment", "aria-current": current ? "true" : null }, label),
  );
  return h("div", { class: "segments" }, links);
}

/** The whole question of usage and cost. `onState` gets the state that was asked for. */
export function questionForm(state, { now_s, onState, splits, view }) {
  const range = rangeOf(state, now_s);
  const usable = Number.isFinite(range.from_s) && Number.isFinite(range.to_s);
  const unit = usable ? unitOf(range) : "day";
  const fields = {};
  const times = timeFields(fields, state, range, () => submit());
  const by = select(
    "by",
    "Split by",
    splits.map((name) => [name, WORDS[name]]),
    state.by || "usage_type",
  );
  const units = [["", unit], ...UNITS.filter((name) => name !== unit).map((name) => [name, name])];
  const per = select("per", "Draw by", units, state.per || "");
  const names = view === "cost" ? ["payer", ...FILTERS] : FILTERS;
  const filters = names.map((name) => {
    const { label, hint } = DECLARED[name];
    const made = field(fields, name, label, state[name] || "", hint);
    suggest(fields[name], () => suggested(name, usable ? range : null));
    return made;
  });
  if (view === "cost") filters.push(field(fields, "prices", "Price book", state.prices || "", "the one in force"));
  const corrections = h("input", {
    type: "checkbox",
    id: "with_corrections",
    checked: Boolean(state.with_corrections),
  });

  function collected() {
    const words = { by: value(by), per: value(per), with_corrections: corrections.checked ? "true" : "" };
    if (fields.prices) words.prices = fields.prices.value.trim();
    for (const name of names) words[name] = listed(fields[name]);
    const own = range.name && fields.from.value === short(range.from_s) && fields.to.value === short(range.to_s);
    return changed(state, {
      ...words,
      ...(own ? {} : { range: "", from: fields.from.value.trim(), to: fields.to.value.trim() }),
    });
  }

  function submit(event) {
    event?.preventDefault();
    for (const [name, pattern] of Object.entries(PATTERNS)) {
      const text = listed(fields[name]);
      const wrong = text && !pattern.test(text);
      complain(fields[name], wrong ? "An account has 12 digits. Put commas between several." : "");
    }
    if (names.every((name) => fields[name].getAttribute("aria-invalid") !== "true")) onState(collected());
  }

  for (const each of [by, per, corrections]) each.addEventListener("change", () => submit());
  const panel = h(
    "div",
    { id: "filters", class: "more-fields", hidden: true },
    h("div", { class: "fields" }, filters),
    h("label", { class: "check" }, corrections, "Also what was booked later for closed months, as corrections"),
  );
  return h(
    "form",
    { class: "card question", onsubmit: submit, novalidate: true },
    h(
      "div",
      { class: "toolbar" },
      ranges(state, now_s),
      times,
      by,
      per,
      h("div", { class: "field last" }, opener(panel), h("button", { type: "submit" }, "Show")),
    ),
    chips(state, names),
    panel,
  );
}

function opener(panel) {
  const open = () => {
    panel.hidden = !panel.hidden;
    button.setAttribute("aria-expanded", String(!panel.hidden));
  };
  const attributes = { type: "button", "aria-expanded": "false", "aria-controls": panel.id, onclick: open };
  const button = h("button", attributes, "Filters");
  return button;
}

// What the question is narrowed by stands in sight, each with a way out.
function chips(state, names) {
  const used = [...names, "with_corrections"].filter((name) => state[name]);
  if (!used.length) return null;
  const chip = (name) => {
    const text = name === "with_corrections" ? "with corrections" : `${DECLARED[name].label}: ${state[name]}`;
    const href = written(changed(state, { [name]: "" }));
    return go(href, { class: "chip", "aria-label": `Without ${text}` }, text, " \u00d7");
  };
  const none = Object.fromEntries(used.map((name) => [name, ""]));
  return h(
    "p",
    { class: "chips" },
    used.map(chip),
    used.length > 1 ? go(written(changed(state, none)), { class: "chip" }, "Clear filters") : null,
  );
}

function listed(input) {
  return input.value.trim().replaceAll(/\s*,\s*|\s+/g, ",");
}

/** What may be written in a filter of a range, the largest first. */
export async function suggested(name, range) {
  const group = DECLARED[name].group;
  const ids = name === "account" || name === "payer";
  const { payers, accounts } = ids ? await (await import("./names.js")).namesOf() : {};
  if (name === "payer") return [...payers];
  if (!group || !range) return [];
  const asked = { from: rfc3339(range.from_s), to: rfc3339(range.to_s), group_by: group };
  const { rows } = await ask("usage", { ...asked, sort: "bytes:desc", top: MOST_SUGGESTED });
  return rows.map((row) => [row[group], accounts?.get(row[group])]);
}

/** Gives a field suggestions as `[[value, label]]`, asked for once. A failure leaves it without. */
export function suggest(input, load) {
  const list = h("datalist", { id: `${input.id}-list` });
  input.setAttribute("list", list.id);
  input.after(list);
  let begun = false;
  input.addEventListener("focus", async () => {
    // Who passes through asks for nothing.
    await new Promise((done) => setTimeout(done, DWELL_MS));
    if (begun || document.activeElement !== input) return;
    begun = true;
    const found = await Promise.resolve(load()).catch(() => []);
    list.replaceChildren(...found.map(([value, label]) => h("option", { value, label: label || null })));
  });
}

/** Beginning and end of a range, as they are written or picked, with what is wrong with them. */
export function timeFields(fields, state, range, onPicked = () => {}) {
  const labels = { from: "From (UTC)", to: "Until (UTC, excluded)" };
  return Object.entries(labels).map(([name, label]) => {
    const at_s = range[`${name}_s`];
    const given = state[name] || (Number.isFinite(at_s) ? short(at_s) : "");
    return timeField(fields, name, label, given, range.problems[name], onPicked);
  });
}

/** A time that is typed, or picked as a day. */
export function timeField(fields, name, label, given, problem = "", onPicked = () => {}) {
  const made = field(fields, name, label, given, "2026-11-24T13:00Z", problem);
  const input = fields[name];
  const calendar = h("input", { type: "date", tabindex: "-1", "aria-hidden": "true", class: "calendar" });
  const open = () => {
    calendar.value = /^\d{4}-\d{2}-\d{2}/.exec(input.value)?.[0] ?? "";
    calendar.showPicker();
  };
  const attributes = { type: "button", class: "pick-day", "aria-label": `Pick a day: ${label}`, onclick: open };
  const button = h("button", attributes);
  calendar.addEventListener("change", () => {
    input.value = calendar.value;
    onPicked();
  });
  const joined = h("div", { class: "with-day" });
  input.replaceWith(joined);
  joined.append(input, button, calendar);
  return made;
}

/** A field with its label and, if it cannot be used, why. */
export function field(fields, name, label, value, placeholder = "", problem = "") {
  const input = h("input", {
    id: name,
    name,
    type: "text",
    value,
    placeholder,
    autocomplete: "off",
    spellcheck: "false",
    maxlength: "2000",
  });
  const told = h("span", { class: "complaint", id: `${name}-problem` });
  fields[name] = input;
  const whole = h("div", { class: `field field-${name}` }, h("label", { for: name }, label), input, told);
  if (problem) complain(input, problem, told);
  return whole;
}

/**
 * A form of some texts and a button.
 *
 * @param fields `[[name, label, value, placeholder, suggestions]]`; `onValues` gets what was typed, by name
 * @param before what stands before them
 */
export function simpleForm(fields, verb, onValues, before = null) {
  const inputs = {};
  const made = fields.map(([name, label, value, example, suggestions]) => {
    const times = name === "from" || name === "to";
    const one = times ? timeField(inputs, name, label, value || "") : field(inputs, name, label, value || "", example);
    if (suggestions) suggest(inputs[name], () => suggestions.map((each) => [each, ""]));
    return one;
  });
  function submit(event) {
    event.preventDefault();
    onValues(Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, input.value.trim()])));
  }
  const button = h("div", { class: "field last" }, h("button", { type: "submit" }, verb));
  return h(
    "form",
    { class: "card question", onsubmit: submit, novalidate: true },
    h("div", { class: "toolbar" }, before, made, button),
  );
}

/** Says at a field what is wrong with it; the empty text takes that back. */
export function complain(input, problem, told = document.getElementById(`${input.id}-problem`)) {
  told.textContent = problem;
  if (problem) {
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-describedby", told.id);
  } else {
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-describedby");
  }
}

function select(name, label, options, chosen) {
  const made = h(
    "select",
    { id: name, name },
    options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)),
  );
  return h("div", { class: `field field-${name}` }, h("label", { for: name }, label), made);
}

function value(holder) {
  return holder.querySelector("select").value;
}
