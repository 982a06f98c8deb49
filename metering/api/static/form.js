// The question of a view, as native controls. Whatever is chosen becomes the address.

import { go, h } from "./dom.js";
import { DECLARED } from "./filters.js";
import { changed, FILTERS, moved, rangeOf, UNITS, WORDS, written } from "./state.js";
import { RANGES, short, unitOf } from "./times.js";

const PATTERNS = { account: /^\d{12}(,\d{12})*$/ };

/** Ranges by name, and steps back and forth. */
export function ranges(state, now_s) {
  const range = rangeOf(state, now_s);
  const known = !Object.keys(range.problems).length;
  const named = Object.entries(RANGES).map(([name, label]) => {
    const href = written(changed(state, { range: name, from: "", to: "", per: "" }));
    return go(href, { class: "segment", "aria-current": range.name === name ? "true" : null }, label);
  });
  const ahead = known && range.to_s <= now_s;
  const steps = known
    ? [
        go(
          written(moved(state, range, -1)),
          { class: "step", "aria-label": "Earlier, by the length of this range" },
          "\u2190",
        ),
        ahead
          ? go(
              written(moved(state, range, 1)),
              { class: "step", "aria-label": "Later, by the length of this range" },
              "\u2192",
            )
          : null,
      ]
    : [];
  return h(
    "nav",
    { class: "ranges", "aria-label": "Time range" },
    h("div", { class: "segments" }, named),
    h("div", { class: "steps" }, steps),
  );
}

/** The whole question of usage and cost. `onState` gets the state that was asked for. */
export function questionForm(state, { now_s, onState, splits, view }) {
  const range = rangeOf(state, now_s);
  const unit = Number.isFinite(range.from_s) && Number.isFinite(range.to_s) ? unitOf(range) : "day";
  const fields = {};
  const times = timeFields(fields, state, range);
  const by = select(
    "by",
    "Split by",
    splits.map((name) => [name, WORDS[name]]),
    state.by || "usage_type",
  );
  const per = select(
    "per",
    "Draw by",
    [["", `automatic (${unit})`], ...UNITS.map((name) => [name, name])],
    state.per || "",
  );
  const filters = FILTERS.map((name) => {
    const { label, hint } = DECLARED[name];
    return field(fields, name, label, state[name] || "", hint);
  });
  if (view === "cost") filters.push(field(fields, "prices", "Price book", state.prices || "", "the one in force"));
  const corrections = h("input", {
    type: "checkbox",
    id: "with_corrections",
    checked: Boolean(state.with_corrections),
  });
  const used = FILTERS.filter((name) => state[name]).length + (state.with_corrections ? 1 : 0);

  function collected() {
    const words = { by: value(by), per: value(per), with_corrections: corrections.checked ? "true" : "" };
    if (fields.prices) words.prices = fields.prices.value.trim();
    for (const name of FILTERS) words[name] = fields[name].value.trim().replaceAll(/\s*,\s*|\s+/g, ",");
    const own = range.name && fields.from.value === short(range.from_s) && fields.to.value === short(range.to_s);
    return changed(state, {
      ...words,
      ...(own ? {} : { range: "", from: fields.from.value.trim(), to: fields.to.value.trim() }),
    });
  }

  function submit(event) {
    event?.preventDefault();
    for (const [name, pattern] of Object.entries(PATTERNS)) {
      const text = fields[name].value.trim().replaceAll(/\s*,\s*|\s+/g, ",");
      complain(
        fields[name],
        text && !pattern.test(text) ? "An account has 12 digits. Put commas between several." : "",
      );
    }
    if (FILTERS.every((name) => fields[name].getAttribute("aria-invalid") !== "true")) onState(collected());
  }

  for (const each of [by, per, corrections]) each.addEventListener("change", () => submit());
  return h(
    "form",
    { class: "card question", onsubmit: submit, novalidate: true },
    ranges(state, now_s),
    h(
      "div",
      { class: "fields" },
      times,
      by,
      per,
      h("div", { class: "field last" }, h("button", { type: "submit", class: "primary" }, "Show")),
    ),
    h(
      "details",
      { class: "more-fields", open: used > 0 },
      h("summary", {}, used ? `Filters (${used})` : "Filters"),
      h("div", { class: "fields" }, filters),
      h("label", { class: "check" }, corrections, "Also what was booked later for closed months, as corrections"),
      used
        ? h("p", { class: "actions" }, go(written(cleared(state)), { class: "button quiet" }, "Clear filters"))
        : null,
    ),
  );
}

function cleared(state) {
  return changed(state, { ...Object.fromEntries(FILTERS.map((name) => [name, ""])), with_corrections: "" });
}

/** Beginning and end of a range, as they are written, with what is wrong with them. */
export function timeFields(fields, state, range) {
  const labels = { from: "From (UTC)", to: "Until (UTC, not included)" };
  return Object.entries(labels).map(([name, label]) => {
    const at_s = range[`${name}_s`];
    const given = state[name] || (Number.isFinite(at_s) ? short(at_s) : "");
    return field(fields, name, label, given, "2026-11-24T13:00Z", range.problems[name]);
  });
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
 * @param fields `[[name, label, value, placeholder]]`; `onValues` gets what was typed, by name
 */
export function simpleForm(fields, verb, onValues) {
  const inputs = {};
  const made = fields.map(([name, label, value, example]) => field(inputs, name, label, value || "", example));
  function submit(event) {
    event.preventDefault();
    onValues(Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, input.value.trim()])));
  }
  const button = h("div", { class: "field last" }, h("button", { type: "submit", class: "primary" }, verb));
  const grid = h("div", { class: `fields ${fields.length === 1 ? "one" : ""}` }, made, button);
  return h("form", { class: "card question", onsubmit: submit, novalidate: true }, grid);
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
  return h("div", { class: "field" }, h("label", { for: name }, label), made);
}

function value(holder) {
  return holder.querySelector("select").value;
}
