// One batch, and one hour: their whole story.

import { ask } from "../api.js";
import { go, h } from "../dom.js";
import { grouped } from "../figures.js";
import { simpleForm } from "../form.js";
import { badge } from "../messages.js";
import { written } from "../state.js";
import { batchLink, byteTile, card, facts, table, tile } from "../table.js";
import { HOUR_S, readable, rfc3339 } from "../times.js";
import { columnsOf, tree } from "../tree.js";

const MARKERS = {
  kept: "kept",
  expired: "expired: the rows remain, and are counted",
  none: "none",
};

/** One batch: what became of it, and where it is. */
export function batch({ state, navigate }) {
  const id = state.extra.id ?? "";
  const form = simpleForm([["id", "Batch", id, "edge-7f3a-000184"]], "Show", (extra) =>
    navigate({ view: "batch", extra }),
  );
  const page = { title: "Batch", subtitle: "The whole story of one batch", form };
  if (!id) return { ...page, load: null };
  const asked = { id };
  for (const name of ["from", "to"]) if (state[name]) asked[name] = state[name];
  return {
    ...page,
    async load(signal) {
      const answer = await ask("batches", asked, { signal });
      return { answer, parts: story(answer), twins: [{ label: "Batch", path: "batches", asked }] };
    },
  };
}

/** One hour: whether markers, usage and rows agree. */
export function hour({ state, navigate, now_s }) {
  const given = state.extra.hour ?? "";
  const latest = rfc3339(now_s - (now_s % HOUR_S) - HOUR_S);
  const form = simpleForm([["hour", "Hour (UTC)", given || latest, latest]], "Check", (extra) =>
    navigate({ view: "hour", extra }),
  );
  const page = { title: "Hour", subtitle: "Whether everything that counts this hour agrees", form };
  if (!given) return { ...page, load: null };
  return {
    ...page,
    async load(signal) {
      const path = `hours/${encodeURIComponent(given)}`;
      const answer = await ask(path, {}, { signal });
      return {
        answer,
        parts: [card("story", readable(given), tree(answer, 0))],
        twins: [{ label: "Hour", path, asked: {} }],
      };
    },
  };
}

function story(answer) {
  const { hours = [], proof, quarantine = [], conflicts = [], retried_as = [], commit } = answer;
  const good = answer.verdict === "accepted" && proof?.equal !== false;
  const mood = answer.verdict === null ? "" : good ? "good" : "bad";
  const records = [
    ["in the batch", answer.records],
    ["metered", answer.metered],
    ["refused", answer.refused],
  ].filter(([, value]) => value !== null && value !== undefined);
  return [
    h(
      "section",
      { class: `card verdict ${mood}`, "aria-labelledby": "verdict" },
      h(
        "h2",
        { id: "verdict" },
        h("code", {}, answer.batch_id),
        " ",
        badge(answer.verdict ?? "without a verdict", mood),
      ),
      answer.reason ? h("p", {}, "Refused: ", h("code", {}, answer.reason)) : null,
      h(
        "div",
        { class: "tiles", id: "sums", "data-equal": String(proof?.equal ?? "") },
        proofTiles(proof),
        recordTile(records),
      ),
    ),
    card("facts", "What is known of it", facts(known(answer))),
    hours.length ? card("hours", "Where it counts", hourTable(hours)) : null,
    quarantine.length
      ? card(
          "quarantine",
          "In quarantine",
          table(columnsOf(quarantine.map(flat)), quarantine.map(flat), { caption: "In quarantine" }),
        )
      : null,
    conflicts.length
      ? card(
          "conflicts",
          "Other content under its id, not metered",
          table(columnsOf(conflicts), conflicts, { caption: "Conflicts" }),
        )
      : null,
    retried_as.length ? card("retried", "Sent again as", table(retries(), retried_as, { caption: "Retries" })) : null,
    commit ? card("commit", "Its commit", tree(commit, 0)) : null,
  ];
}

function proofTiles(proof) {
  if (!proof) return [];
  return [
    proof.marker === null
      ? tile("Its marker says", "no longer", "markers end after their time; the rows remain")
      : byteTile("Its marker says", proof.marker),
    byteTile("Its rows add up to", proof.rows),
  ];
}

function recordTile(records) {
  if (!records.length) return null;
  const [[, all], ...parts] = records;
  return tile("Records", grouped(all), parts.map(([name, value]) => `${grouped(value)} ${name}`).join(", "));
}

function known(answer) {
  const source = answer.source_id ? `${answer.source_id}, number ${answer.sequence}` : "";
  return [
    ["Decided", answer.decided_at ? `${readable(answer.decided_at)} UTC` : ""],
    ["Source", source],
    ["Sender", answer.sender],
    ["Marker", MARKERS[answer.marker] ?? answer.marker],
    ["Kept until", answer.kept_until ? `${readable(answer.kept_until)} UTC` : ""],
    ["Content hash", answer.content_hash ? h("code", {}, answer.content_hash) : ""],
  ];
}

function hourTable(rows) {
  const columns = [
    {
      name: "hour",
      title: "hour (UTC)",
      kind: "time",
      cell: (row) => go(written({ view: "hour", extra: { hour: row.hour } }), { class: "id" }, readable(row.hour)),
    },
    { name: "bytes", title: "marker (bytes)", kind: "bytes" },
    { name: "rows_bytes", title: "rows (bytes)", kind: "bytes" },
    { name: "records", title: "records", kind: "integer" },
    {
      name: "equal",
      title: "equal",
      cell: (row) => badge(row.equal ? "equal" : "differs", row.equal ? "good" : "bad"),
    },
  ];
  if (rows.some((row) => row.files)) {
    columns.push({
      name: "files",
      title: "files",
      cell: (row) =>
        h(
          "ul",
          { class: "plain keys" },
          row.files.map(({ key }) => h("li", {}, h("code", {}, key))),
        ),
    });
  }
  return table(columns, rows, { caption: "Hours of the batch" });
}

function flat(entry) {
  const reasons = Object.entries(entry.reasons ?? {}).map(([name, count]) => (count ? `${name} (${count})` : name));
  return { ...entry, reasons: reasons.join(", "), retried_as: (entry.retried_as ?? []).join(", ") };
}

function retries() {
  return [
    { name: "batch_id", title: "batch", kind: "mono", cell: (row) => batchLink(row.batch_id) },
    {
      name: "verdict",
      cell: (row) => badge(row.verdict ?? "without a verdict", row.verdict === "accepted" ? "good" : ""),
    },
    { name: "metered", kind: "integer" },
    { name: "refused", kind: "integer" },
  ];
}
