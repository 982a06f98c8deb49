import assert from "node:assert/strict";
import { test } from "node:test";

import {
  cents,
  change,
  exactJson,
  grouped,
  percent,
  ratio,
  scaled,
  sized,
  sum,
  unitOfSize,
  unscaled,
  whole,
} from "../../../metering/api/static/figures.js";

test("a total keeps its last digit at any size", () => {
  const values = ["9007199254740993", "1", "140737488355328000001"].map(whole);
  assert.equal(String(sum(values)), "140746495554582740995");
  assert.equal(grouped(sum(values)), "140,746,495,554,582,740,995");
});

test("what is not a whole number is refused, not counted as nothing", () => {
  for (const text of ["", "1.5", "1e3", "0x10", " 1", "null", null, undefined])
    assert.throws(() => whole(text), TypeError);
});

test("sizes are in the unit that fits, as the command line writes them", () => {
  const GB = 1n << 30n;
  assert.equal(sized(0n), "0 bytes");
  assert.equal(sized(1n), "1 byte");
  assert.equal(sized(1023n), "1,023 bytes");
  assert.equal(sized(1024n), "1.00 KB");
  assert.equal(sized(GB), "1.00 GB");
  assert.equal(sized(GB * 12n + GB / 2n), "12.5 GB");
  assert.equal(sized(GB * 1023n), "1,023 GB");
  assert.equal(sized(GB * 1024n - 1n), "1.00 TB");
  assert.equal(sized(-GB), "\u22121.00 GB");
  assert.deepEqual(unitOfSize(GB * 7n), { per: GB, name: "GB" });
});

test("cents are rounded for the eye, and what is not nothing is never 0.00", () => {
  assert.equal(cents("661.674200273947790265083312"), "661.67");
  assert.equal(cents("1234567.005"), "1,234,567.01");
  assert.equal(cents("0.0000000000472"), "< 0.01");
  assert.equal(cents("0"), "0.00");
  assert.equal(cents("-0.5"), "\u22120.50");
});

test("a change is in percent, and what was not there is new", () => {
  assert.equal(change(120n, 100n), "+20.0 %");
  assert.equal(change(95n, 100n), "\u22125.0 %");
  assert.equal(change(100n, 100n), "+0.0 %");
  assert.equal(change(3n, 0n), "new");
  assert.equal(change(0n, 0n), "");
});

test("shares", () => {
  assert.equal(percent(1n, 3n), "33.3 %");
  assert.equal(percent(1n, 100000n), "< 0.1 %");
  assert.equal(percent(0n, 10n), "0.0 %");
  assert.equal(percent(0n, 0n), "");
});

test("decimals go there and back", () => {
  for (const text of ["0.0000000000", "12.3400000000", "-0.0000000001", "98765432109876543210.1234567890"]) {
    assert.equal(unscaled(scaled(text)), text);
  }
  assert.equal(unscaled(scaled("7")), "7.0000000000");
  assert.throws(() => scaled("0.00000000001"), TypeError);
  assert.throws(() => scaled("1,5"), TypeError);
  assert.equal(ratio(-5n, 10n, 0), "-1");
});

test("integers that a floating-point number cannot hold become texts, and nothing else does", () => {
  const text =
    '{"a": 9007199254740993, "b": "1234567890123456789 \\"9007199254740993", "c": [1, -98765432109876543210], "d": 0.12345678901234567890, "e": 12345678901234567890.5}';
  const found = exactJson(text);
  assert.equal(found.a, "9007199254740993");
  assert.equal(found.b, '1234567890123456789 "9007199254740993');
  assert.deepEqual(found.c, [1, "-98765432109876543210"]);
  assert.equal(found.d, 0.12345678901234568);
  assert.equal(found.e, 12345678901234567000);
});
