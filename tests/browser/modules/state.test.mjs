import assert from "node:assert/strict";
import { test } from "node:test";

import {
  changed,
  deeper,
  moved,
  parsed,
  question,
  rangeOf,
  SPLITS,
  splitsOf,
  unknownWords,
  written,
} from "../../../metering/api/static/state.js";
import { before, named, readable, seconds, short, steps, unitName, unitOf } from "../../../metering/api/static/times.js";

const NOW_S = Date.UTC(2026, 10, 24, 13, 30) / 1000;

test("an address says the whole state, and reads back the same", () => {
  const search =
    "?view=cost&from=2026-11-01&to=2026-11-24T13:00Z&by=service&per=hour&account=123456789012,210987654321&with_corrections=true&x=a/b:c";
  const state = parsed(search);
  assert.equal(written(state), search);
  assert.deepEqual(parsed(written(state)), state);
  assert.equal(parsed("?view=constructor").view, "usage");
});

test("times are UTC whatever the machine's zone is, and days that do not exist are refused", () => {
  assert.equal(seconds("2026-11"), Date.UTC(2026, 10) / 1000);
  assert.equal(seconds("2026-11-24T13:00Z"), Date.UTC(2026, 10, 24, 13) / 1000);
  assert.equal(seconds("2026-11-24T13:00:00Z"), Date.UTC(2026, 10, 24, 13) / 1000);
  for (const text of [
    "2026-02-31",
    "2026-13",
    "2026-11-24T25:00Z",
    "24.11.2026",
    "",
    null,
    "yesterday",
    "2026-11-24T13:00",
  ]) {
    assert.equal(seconds(text), null, text);
  }
  assert.equal(short(Date.UTC(2026, 10, 24) / 1000), "2026-11-24");
  assert.equal(short(Date.UTC(2026, 10, 24, 13) / 1000), "2026-11-24T13:00Z");
  assert.equal(readable("2026-11-24T13:00:00Z"), "2026-11-24 13:00");
  assert.equal(readable("2026-11-24T13:00:05Z"), "2026-11-24 13:00:05");
});

test("named ranges end with the hour that runs, and a month that is over with its end", () => {
  const shown = (name) => Object.values(named(name, NOW_S)).map(short);
  assert.deepEqual(shown("24h"), ["2026-11-23T14:00Z", "2026-11-24T14:00Z"]);
  assert.deepEqual(shown("7d"), ["2026-11-18", "2026-11-24T14:00Z"]);
  assert.deepEqual(shown("month"), ["2026-11-01", "2026-11-24T14:00Z"]);
  assert.deepEqual(shown("last-month"), ["2026-10-01", "2026-11-01"]);
  assert.deepEqual(Object.values(named("last-month", Date.UTC(2026, 0, 5) / 1000)).map(short), [
    "2025-12-01",
    "2026-01-01",
  ]);
});

test("seven days are no more hours than a report of all accounts may read", () => {
  for (const now_s of [NOW_S, Date.UTC(2026, 10, 24) / 1000, Date.UTC(2026, 10, 24, 23, 59, 59) / 1000]) {
    const { from_s, to_s } = named("7d", now_s);
    assert.ok(to_s - from_s <= 168 * 3600);
  }
});

test("steps cover a range without holes, and nothing that is to come", () => {
  const range = { from_s: seconds("2025-12-15"), to_s: seconds("2026-03") };
  assert.deepEqual(
    steps("month", range, NOW_S).map((each) => unitName("month", each)),
    ["2025-12", "2026-01", "2026-02"],
  );
  const open = { from_s: seconds("2026-11-23"), to_s: seconds("2026-12") };
  assert.deepEqual(
    steps("day", open, NOW_S).map((each) => unitName("day", each)),
    ["2026-11-23", "2026-11-24"],
  );
  assert.equal(steps("hour", open, NOW_S).length, 38);
  assert.equal(unitOf({ from_s: 0, to_s: 2 * 86400 }), "hour");
  assert.equal(unitOf({ from_s: 0, to_s: 2 * 86400 + 3600 }), "day");
});

test("what is wrong with a range is said at its field", () => {
  assert.deepEqual(Object.keys(rangeOf(parsed("?from=nonsense&to=2026-11"), NOW_S).problems), ["from"]);
  assert.deepEqual(Object.keys(rangeOf(parsed("?from=2026-11-02&to=2026-11-01"), NOW_S).problems), ["to"]);
  assert.deepEqual(rangeOf(parsed("?from=2026-11-02&to=2026-11-03"), NOW_S).problems, {});
});

test("the API is asked what the state says, and never an empty word", () => {
  const state = parsed("?account=123456789012&service=&by=service&from=2026-11-01&to=2026-11-02");
  assert.deepEqual(question(state, rangeOf(state, NOW_S), "service"), {
    from: "2026-11-01T00:00:00Z",
    to: "2026-11-02T00:00:00Z",
    group_by: "service",
    account: "123456789012",
  });
});

test("a look deeper filters by the row and splits by what is still open", () => {
  const first = deeper(parsed("?by=usage_type"), "usage_type", "DataTransfer-Out-Bytes", SPLITS.usage);
  assert.deepEqual([first.usage_type, first.by], ["DataTransfer-Out-Bytes", "account_id"]);
  const second = deeper(first, "account_id", "123456789012", SPLITS.usage);
  assert.deepEqual([second.account, second.by], ["123456789012", "service"]);
  const last = deeper({ ...second, service: "A", from_location: "b" }, "to", "internet", SPLITS.usage);
  assert.deepEqual([last.to_location, last.by], ["internet", "to"]);
  assert.equal(deeper(parsed(""), "tier", "flat", SPLITS.cost), null);
});

test("a range moves by its own length", () => {
  const state = parsed("?range=24h");
  const before = moved(state, rangeOf(state, NOW_S), -1);
  assert.deepEqual([before.range, before.from, before.to], ["", "2026-11-22T14:00Z", "2026-11-23T14:00Z"]);
  assert.equal(changed(state, { range: "7d" }).range, "7d");
});

test("a week is compared with the week before, and a part of a month with the same part of the one before", () => {
  const shown = (range) => {
    const { from_s, to_s, name } = before(range);
    return [short(from_s), short(to_s), name];
  };
  const of = (name, now_s = NOW_S) => ({ name, ...named(name, now_s) });
  assert.deepEqual(shown(of("24h")), ["2026-11-22T14:00Z", "2026-11-23T14:00Z", "the day before"]);
  assert.deepEqual(shown(of("7d")), ["2026-11-11", "2026-11-17T14:00Z", "the week before"]);
  assert.deepEqual(shown(of("month")), ["2026-10-01", "2026-10-24T14:00Z", "the month before"]);
  assert.deepEqual(shown(of("last-month")), ["2026-09-01", "2026-10-01", "the month before"]);
  const march = of("month", Date.UTC(2026, 2, 31) / 1000);
  assert.deepEqual(shown(march), ["2026-02-01", "2026-03-01", "the month before"], "February is shorter");
  const own = { name: "", from_s: seconds("2026-11-03T07:00Z"), to_s: seconds("2026-11-06T07:00Z") };
  assert.deepEqual(shown(own), ["2026-10-31T07:00Z", "2026-11-03T07:00Z", "the 3 days before"]);
});

test("words that the page does not know are said, with the one that was meant", () => {
  const said = (search, own = []) => unknownWords(search, parsed(search), own, SPLITS.usage);
  assert.deepEqual(said("?view=usage&by=service&range=24h&per=day&account=123456789012"), []);
  assert.match(said("?group_by=service")[0], /group_by is left out.*Write by=service/);
  assert.match(said("?view=costs")[0], /no view costs/);
  assert.match(said("?by=tier")[0], /by=tier is left out: by is one of usage_type, /);
  assert.deepEqual(said("?view=batch&id=a-1", ["id"]), []);
});

test("who sees more than own accounts can split costs by payer", () => {
  assert.ok(splitsOf("cost", false, "analyst").includes("payer"));
  assert.ok(!splitsOf("cost", false, "customer").includes("payer"));
  assert.ok(!splitsOf("usage", true, "operator").includes("payer"));
  assert.ok(splitsOf("usage", true).includes("region"));
});

test("a day and a time are taken as the page writes them, too", () => {
  assert.equal(seconds("2026-11-24 13:00"), Date.UTC(2026, 10, 24, 13) / 1000);
});
