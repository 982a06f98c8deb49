// Who: from a gateway to the owners, workloads and destinations of its bytes, one table a step.

import { ask, knownRole } from "../api.js";
import { go, h } from "../dom.js";
import { cents, grouped, largestFirst, percent, sum, unscaled, whole } from "../figures.js";
import { ranges, segments, simpleForm } from "../form.js";
import { badge, commandOf, nothing } from "../messages.js";
import { rangeOf, WORDS, written } from "../state.js";
import { byteTile, card, table, tile } from "../table.js";
import { following, readable, rfc3339, seconds, short, unitOf } from "../times.js";
import { MEASURES, USD_PLACES } from "./measures.js";
import { costColumns, exactButton, GATEWAY, usageColumns } from "./rows.js";

// Filters in the order in which one narrows the other, and the steps that the page takes by itself.
const NARROWED = ["usage_type", "resource", "path", "owner", "workload", "destination"];
const STEPS = ["resource", "owner", "workload", "destination"];
const FREE = "C3DataTransfer-";
const UNOWNED = "unowned";
const UNNAMED = "unattributed";
const HIDDEN = "another account";
const OTHER_USAGE = "other_usage";
const BASES = {
  told: "by the line itself",
  seen: "by other lines of the file",
  inventory: "by the inventory",
  split: "in proportion",
  rule: "by a rule",
};
// Why bytes have no name, and what helps.
const WHY = {
  public_side: ["The ports that the gateway maps are in no log", "look at its NatGateway-Bytes"],
  sides_differ: ["The private side of the gateway has not seen them: scans, or answers of another hour", ""],
  no_detail: ["The on-ramp kept no causes of these bytes, or they were lost", ""],
  side_unknown: ["The log does not tell the gateway's sides apart", "add its fields pkt-srcaddr and pkt-dstaddr"],
  address_unknown: ["No interface is known at the address", "capture the account and region of the workload"],
  ambiguous_address: ["Several networks may have the address", "capture the transit gateway's owner and all its VPCs"],
  address_of_two: ["Two interfaces have the address: it changed hands", ""],
  address_reused: ["The address changed hands in this hour or the one before", ""],
  interface_unknown: ["Nothing says what the interface belongs to", "capture a context, or log the field instance-id"],
  direction_unknown: ["Nothing says which way they went", "log the field flow-direction"],
  no_context: ["Without a context, nothing could confirm a name", "capture a context"],
  many: ["They are the smallest of more than 100,000 causes of a file", ""],
  [OTHER_USAGE]: ["No flow log metered them, or they are not counted yet", "add a log source, or wait an hour"],
};

export function who({ state, now_s, navigate, place }) {
  const range = rangeOf(state, now_s);
  const { usage_type, account, prices, extra } = state;
  const given = { usage_type, account, prices, ...extra };
  const times = { range: state.range, from: state.from, to: state.to };
  const unit = unitOf(range);
  // Bytes of two usage types are never added up: without one, it is chosen first.
  const begins = !usage_type || usage_type.includes(",");
  const splits = begins ? ["resource"] : [...STEPS, "path", unit].filter((name) => !given[name]);
  const by = splits.includes(state.by) ? state.by : begins ? "resource" : nextOf(given, unit);
  const href = (words) => addressOf({ ...times, ...given, ...words });
  const shown = { begins, by, given, href, place, range, unit };
  const page = { title: "Who moves the bytes", form: formOf(shown, { state, now_s, navigate, splits }), splits };
  const problems = Object.values(range.problems);
  const hint = h("p", { class: "card problem", role: "alert" }, problems.join(" "));
  if (problems.length) return { ...page, load: null, hint };
  return {
    ...page,
    subtitle: `${readable(rfc3339(range.from_s))} to ${readable(rfc3339(range.to_s))} UTC`,
    async load(signal) {
      const asked = { from: rfc3339(range.from_s), to: rfc3339(range.to_s) };
      if (!begins || given.resource) asked.group_by = by;
      for (const name of [...NARROWED, "account"]) if (given[name]) asked[name] = given[name];
      const { answer, priced, refused } = await causesOf(asked, given, signal);
      Object.assign(shown, { answer, dollars: Boolean(priced.cost), refused });
      return { answer, parts: partsOf(shown), twins: [{ label: "The table", path: "who", asked: priced }] };
    },
  };
}

/** The answer, with dollars if they are asked for and can be had. Without them, bytes still stand. */
async function causesOf(asked, { dollars, prices }, signal) {
  const priced = dollars ? { ...asked, cost: "true", ...(prices ? { prices } : {}) } : asked;
  try {
    return { answer: await ask("who", priced, { signal }), priced };
  } catch (problem) {
    if (!dollars || signal.aborted || ![403, 422].includes(problem.status)) throw problem;
    return { answer: await ask("who", asked, { signal }), priced: asked, refused: problem };
  }
}

function stateOf(words) {
  return { ...words, view: "who", extra: words };
}

function addressOf(words) {
  return written(stateOf(words));
}

/** The step after the deepest one, or the first that is open; over time, if all are taken. */
function nextOf(given, unit) {
  const open = (name) => !given[name];
  const deepest = STEPS.findLastIndex((name) => given[name]);
  return STEPS.slice(deepest + 1).find(open) ?? STEPS.slice(1).find(open) ?? unit;
}

function nameOf(column) {
  return WORDS[column] ?? column;
}

function formOf({ begins, by, given, href, range }, { state, now_s, navigate, splits }) {
  const known = range.name
    ? { from: short(range.from_s), to: short(range.to_s) }
    : { from: state.from ?? "", to: state.to ?? "" };
  const form = simpleForm(
    [
      ["from", "From (UTC)", known.from],
      ["to", "Until (UTC, excluded)", known.to],
      ["resource", "Resource", given.resource, "nat-0a1b2c3d4e5f60718"],
      ["account", "Account", given.account, "123456789012"],
    ],
    "Show",
    ({ from, to, ...fields }) => {
      const own = range.name && from === known.from && to === known.to;
      const times = own ? { range: state.range } : { from, to };
      navigate(stateOf({ ...given, by: state.by, ...fields, ...times }));
    },
    ranges(state, now_s, state.extra),
  );
  const dollars = given.dollars ? "true" : "";
  const counted = ([title, words]) => [title, href({ by: state.by, dollars: words }), words === dollars];
  const shown = h(
    "nav",
    { class: "toolbar", "aria-label": "What is shown" },
    begins ? null : segments(splits.map((name) => [`${nameOf(name)}s`, href({ by: name }), name === by])),
    segments([["bytes", ""], ["dollars", "true"]].map(counted)),
  );
  form.append(h("div", { class: "card-head more-fields" }, crumbsOf(given, href), shown));
  return form;
}

// The way from all resources to here: each part leads back.
function crumbsOf(given, href) {
  const taken = NARROWED.filter((name) => given[name]);
  const without = (names) => Object.fromEntries(names.map((name) => [name, ""]));
  const crumbs = [["All resources", href(without(taken))]];
  taken.forEach((name, at) => crumbs.push([given[name], href(without(taken.slice(at + 1))), nameOf(name)]));
  return h(
    "nav",
    { class: "crumbs", "aria-label": "The way here" },
    crumbs.map(([text, to, title], at) =>
      h(
        "span",
        {},
        at ? h("span", { class: "soft", "aria-hidden": "true" }, "\u203a ") : null,
        at + 1 < crumbs.length
          ? go(to, { class: "chip", title }, text)
          : h("b", { "aria-current": "location", title }, text),
      ),
    ),
  );
}

function partsOf(shown) {
  const { answer, by, href } = shown;
  const wide = ["Last 30 days", href({ by: "", range: "30d", from: "", to: "" })];
  if (!answer.rows.length) return [nothing("No usage matches in this range.", [wide])];
  const rows = rowsOf(shown);
  if (!answer.counted_through) return [unknownYet(shown, "Causes are not counted yet")];
  if (by === "resource" && rows.every((row) => !row.resource))
    return [unknownYet(shown, "No flow log has metered these bytes")];
  return [shown.refused ? withoutDollars(shown) : null, tilesOf(shown, rows), tableOf(shown, rows)];
}

function commandHere({ place: { regions, stage } }, words) {
  return commandOf(`metering ${words} --region ${regions.split(",")[0]} --stage ${stage}`);
}

function unknownYet(shown, title) {
  const words = "Flow logs say whose bytes they are, and the biller counts that each hour. To meter flow logs:";
  return nothing(title, [commandHere(shown, "logs add s3://BUCKET/AWSLogs/")], words);
}

function withoutDollars({ refused, href }) {
  const sample = /price book/.test(refused.detail)
    ? go(href({ prices: "sample" }), { class: "button" }, "Show with the sample prices")
    : null;
  const words = `Without dollars: ${refused.detail} `;
  return h("p", { class: "banner warn", id: "no-dollars", role: "note" }, words, sample);
}

function valueOf({ dollars }, row) {
  return MEASURES[dollars ? "cost" : "usage"].valueOf(row);
}

/** Rows by resource and by time have no reason: each resource and each hour is one row, with its named bytes. */
function merged(shown) {
  const { by, answer } = shown;
  const found = new Map();
  for (const row of answer.rows) {
    const key = `${row.usage_type} ${row[by]}`;
    const none = { bytes: 0n, cost_usd: null, named: 0n, unpriced_bytes: 0n, value: 0n };
    const into = found.get(key) ?? { ...row, reason: "", ...none };
    into.bytes += whole(row.bytes);
    into.named += whole(row.named_bytes ?? (row.reason ? 0 : row.bytes));
    into.value += valueOf(shown, row);
    into.unpriced_bytes += whole(row.unpriced_bytes ?? 0);
    if (row.cost_usd) into.cost_usd = unscaled(into.value, USD_PLACES);
    found.set(key, into);
  }
  return [...found.values()];
}

/** Rows in their order: gateways first, then the largest; times from the first to the last; causes as in the answer. */
function rowsOf(shown) {
  const { answer, by, unit } = shown;
  if (by === unit) return merged(shown).sort((one, other) => (one[by] < other[by] ? -1 : 1));
  if (by !== "resource") return answer.rows.map((row) => ({ ...row, value: valueOf(shown, row) }));
  const rank = (row) => (GATEWAY.test(row.usage_type) ? 0 : 1);
  return merged(shown).sort(
    (one, other) =>
      rank(one) - rank(other) || largestFirst(one.value, other.value) || largestFirst(one.bytes, other.bytes),
  );
}

function costTile({ total_usd: usd }) {
  if (usd === null) return tile("Cost", "no price", "");
  return tile("Cost", [cents(usd), h("span", { class: "unit" }, " USD")], `${grouped(usd)} USD exactly`, {
    id: "cost-total",
    "data-usd": usd,
  });
}

function tilesOf({ answer, begins, dollars }, rows) {
  const { as_of, captured, counted_through: counted, totals } = answer;
  const [total] = totals;
  const size = whole(total.bytes);
  const told = Object.keys(BASES).filter((name) => total[name]);
  const bases = told.map((name) => `${percent(whole(total[name]), size)} ${BASES[name]}`);
  const named = percent(size - whole(total.unattributed), size) || "none";
  return h(
    "div",
    { class: "tiles" },
    dollars ? costTile(answer) : begins ? null : byteTile("Total", size, { id: "total", "data-bytes": String(size) }),
    begins ? tile("Resources", grouped(rows.filter((row) => row.resource).length), "with causes") : null,
    begins && !dollars ? tile("Usage types", grouped(totals.length), "whose bytes are never added up") : null,
    begins ? null : tile("With a name", named, bases.join(", ")),
    tile(
      "Causes are counted through",
      [readable(counted < as_of ? counted : as_of), h("span", { class: "unit" }, " UTC")],
      captured ? `names are final until ${readable(captured)} UTC` : "names are not final yet",
      { id: "counted" },
    ),
  );
}

function tableOf(shown, rows) {
  const { answer, begins, by, dollars, given } = shown;
  const all = sum(rows.map((row) => row.value));
  const whole_ = Object.fromEntries(answer.totals.map((each) => [each.usage_type, whole(each.bytes)]));
  const ofResources = by === "resource";
  const kind = ofResources ? "text" : "prose";
  // Beside cents there is no room for sizes on small screens.
  const priced = () => costColumns().map((column) => ({ ...column, wide: column.name !== "cost_usd" }));
  const columns = [
    { name: by, title: nameOf(by), kind, foot: () => "Total", cell: (row) => nameCell(shown, row) },
    ...(dollars ? priced() : usageColumns().slice(0, 2)),
    { name: "share", foot: () => "", cell: (row) => bar(row.value, dollars ? all : whole_[row.usage_type]) },
    rows[0].named === undefined ? [] : { name: "named", foot: () => "", cell: (row) => bar(row.named, row.bytes) },
  ].flat();
  const free = (row) => row.usage_type.includes(FREE);
  const kept = rows.filter((row) => !ofResources || (row.resource && !free(row)));
  const folds = [
    ["free", (row) => row.resource && free(row)],
    ["from no flow log", (row) => !row.resource],
  ].map(([title, fits]) => {
    const inside = ofResources ? rows.filter(fits) : [];
    return { title: `${title} (${grouped(inside.length)})`, cells: {}, rows: inside };
  });
  const foot = { bytes: String(sum(rows.map((row) => whole(row.bytes)))), cost_usd: answer.total_usd, total: true };
  const what = given.usage_type && !begins ? `${given.usage_type} by ${nameOf(by)}` : "By resource and usage type";
  return h(
    "section",
    { class: "card bars", "aria-labelledby": "causes" },
    h(
      "div",
      { class: "card-head" },
      h("h2", { id: "causes" }, what),
      dollars ? h("div", { class: "actions" }, exactButton()) : null,
    ),
    table(columns, kept, { caption: `${what}, first what has no owner or no name`, foot: begins ? null : foot, folds }),
    begins ? hintOf("Bytes of two usage types are never added up: processing is a second count of transfer.") : null,
    by === "owner" ? ownersHint(shown, rows) : null,
  );
}

function bar(part, all) {
  const width = all > 0n ? Number((part * 1000n) / all) / 10 : 0;
  return h("span", { class: "share", "--share": `${width}%` }, percent(part, all));
}

function nameCell(shown, row) {
  const { answer, by, href, unit } = shown;
  const name = row[by] || "unknown";
  if (by === "resource") {
    const type = h("p", { class: "given" }, row.usage_type);
    const rest = answer.others?.some((each) => each.usage_type === row.usage_type) && name.startsWith("others (");
    if (rest || !row.resource) return [h("span", { class: "id" }, row.resource || "no resource"), type];
    return [linkOf(href({ by: "", usage_type: row.usage_type, resource: row.resource }), name), type];
  }
  if (by === unit) {
    const at_s = seconds(name);
    const words = { by: "", range: "", from: short(at_s), to: short(following(unit, at_s)) };
    return linkOf(href(words), readable(name));
  }
  if (name === UNNAMED || row.reason) return [h("span", { class: "id" }, name), whyOf(row.reason, name)];
  const unseen = h("p", { class: "given" }, "This token does not see its name.");
  if (name === HIDDEN) return [h("span", { class: "id" }, name), unseen];
  if (!row[by]) return h("span", { class: "id" }, name);
  return [linkOf(href({ by: "", [by]: name }), name), name === UNOWNED ? [" ", badge("no rule fits", "bad")] : ""];
}

function linkOf(href, label) {
  return go(href, { class: "id" }, label);
}

function whyOf(reason, name) {
  if (!reason) return null;
  const [what, helps] = WHY[reason] ?? [reason, ""];
  const words = `${what}. ${helps ? `What helps: ${helps}.` : "Nothing helps."}`;
  return h("p", { class: "given" }, name === UNNAMED ? words : `Unattributed. ${words}`);
}

function hintOf(...words) {
  return h("p", { class: "hint" }, words);
}

function ownersHint(shown, rows) {
  const { version } = shown.answer.owners;
  if (knownRole() === "customer" || !rows.some((row) => row.owner === UNOWNED)) return null;
  if (version) return hintOf(`Owners by version ${version} of the book: what no rule fits is unowned.`);
  return hintOf("No owner is named yet: ", commandHere(shown, "owners put owners.toml"));
}
