import assert from "node:assert/strict";
import { test } from "node:test";

import { heights, layers, OTHER, sums } from "../../../metering/api/static/stack.js";

const AT = [0, 3600, 7200];
const name = (at) => new Date(at * 1000).toISOString().replace(".000", "");
const made = (entries) => entries.map(([key, index, bytes]) => ({ kind: key, hour: name(AT[index]), bytes }));
const built = (entries, most = 12) =>
  layers(made(entries), { unit: "hour", at: AT, name: "kind", valueOf: (row) => BigInt(row.bytes), most });

test("layers are ordered by their totals, the largest first, equal ones by name", () => {
  const stack = built([
    ["b", 0, 5],
    ["a", 1, 5],
    ["c", 2, 4],
    ["c", 0, 3],
  ]);
  assert.deepEqual(
    stack.map((layer) => layer.name),
    ["c", "a", "b"],
  );
  assert.deepEqual(stack[0].values, [3n, 0n, 4n]);
  assert.deepEqual(sums(stack), [8n, 5n, 4n]);
});

test("the others are one layer, and nothing of them is lost", () => {
  const entries = Array.from({ length: 20 }, (_, number) => [`k${number}`, number % 3, 2 ** 53 + number]);
  const stack = built(entries, 12);
  assert.equal(stack.length, 13);
  assert.deepEqual([stack[12].name, stack[12].count], [OTHER, 8]);
  const all = entries.reduce((total, [, , bytes]) => total + BigInt(bytes), 0n);
  assert.equal(
    sums(stack).reduce((total, each) => total + each, 0n),
    all,
  );
  assert.equal(built(entries.slice(0, 13), 12).length, 13, "thirteen need no other");
});

test("heights lie on each other, the highest first, and the last step has its width", () => {
  const drawn = heights(
    built([
      ["a", 0, 4],
      ["b", 0, 2],
      ["b", 2, 1],
    ]),
    2n,
  );
  assert.deepEqual(drawn, [
    [3, 0, 0.5, 0.5],
    [2, 0, 0, 0],
  ]);
});

test("a row outside of the range is a fault, and not left out of the picture", () => {
  assert.throws(
    () =>
      layers([{ kind: "a", hour: "2030-01-01T00:00:00Z", bytes: 1 }], {
        unit: "hour",
        at: AT,
        name: "kind",
        valueOf: () => 1n,
      }),
    RangeError,
  );
});
