// Names of payers and accounts, beside their ids and in suggestions.

import { ask, knownRole, token } from "./api.js";

let kept = null;
let keptFor = "";

/** Names by id, of `payers` and of `accounts`; none for who sees only some accounts, or where none were given. */
export function namesOf() {
  if (keptFor !== token()) [kept, keptFor] = [null, token()];
  kept ??= knownRole() === "customer" ? Promise.resolve(byId([])) : ask("organization").then(({ rows }) => byId(rows));
  return kept.catch(() => byId([]));
}

function byId(rows) {
  const payers = new Map(rows.map((row) => [row.payer, row.payer_name]));
  const accounts = new Map(payers);
  for (const row of rows) if (row.account && row.account_name) accounts.set(row.account, row.account_name);
  return { payers, accounts };
}
