// What is asked of the API. The token is kept for this tab alone and never stands in an address.

import { exactJson } from "./figures.js";

const KEY = "metering.token";
export const SIGN_IN_KEY = "metering.sign-in";
const ROLE = "metering.role";
const FRAGMENT = /^#(?:token=)?(mtr_[A-Za-z0-9_-]+|[A-Za-z0-9_-]{32,})$/;
// More pages than that are not read: an answer of so many rows is for a file.
const MOST_PAGES = 30;
const TIMEOUT_MS = 60_000;
const TOO_MUCH = 429;
// Who may ask again so soon is not told to, but waits.
const SOON_S = 5;
const MOST_TRIES = 4;

/** A problem document (RFC 9457), or a failure that has none. */
export class Problem extends Error {
  constructor({ status = 0, title = "", detail = "", errors = [], retry_s = null }) {
    super(detail || title);
    Object.assign(this, { status, title, detail, errors, retry_s });
  }
}

/** Takes a token out of the address, at once, so that it is in no history and no copied link. */
export function takeToken() {
  const found = FRAGMENT.exec(location.hash);
  if (!found) return false;
  setToken(found[1]);
  history.replaceState(history.state, "", location.pathname + location.search);
  return true;
}

/** Takes the provider's answer out of the address, at once; null if there is none. It can be used once. */
export function takeAnswer() {
  const given = new URLSearchParams(location.search);
  if (!given.has("state") || !(given.has("code") || given.has("error"))) return null;
  const kept = JSON.parse(sessionStorage.getItem(SIGN_IN_KEY) ?? "null");
  sessionStorage.removeItem(SIGN_IN_KEY);
  history.replaceState(null, "", location.pathname + (kept?.back ?? ""));
  return { given, kept };
}

export function token() {
  return sessionStorage.getItem(KEY);
}

/** Whether a token is what an identity provider gives a person: it has three parts. */
export function isOfPerson() {
  return token()?.split(".").length === 3;
}

export function setToken(text) {
  if (text) sessionStorage.setItem(KEY, text);
  else sessionStorage.removeItem(KEY);
  sessionStorage.removeItem(ROLE);
}

/** The role that the API said this token has; empty if it did not say yet. */
export function knownRole() {
  return sessionStorage.getItem(ROLE) ?? "";
}

/** The whole address of a question. */
export function address(path, asked = {}) {
  const words = String(new URLSearchParams(asked)).replaceAll("%2C", ",").replaceAll("%3A", ":");
  return new URL(`v1/${path}${words ? `?${words}` : ""}`, new URL(".", location.href)).href;
}

/**
 * Everything that an answer has: all of its pages, in the order of its rows.
 *
 * @param list name of the rows in the answer
 */
export async function ask(path, asked = {}, { signal, list = "rows" } = {}) {
  const first = await page(path, asked, signal);
  let next = first.next;
  for (let pages = 1; next; pages += 1) {
    if (pages === MOST_PAGES) throw tooLong();
    const more = await page(path, { ...asked, cursor: next }, signal);
    first[list] = [...first[list], ...more[list]];
    next = more.next;
  }
  return first;
}

/** One page of an answer, as it came. */
export async function page(path, asked, signal) {
  const response = await sent(address(path, asked), signal);
  return exactJson(await response.text());
}

/** An answer as a file: a link cannot send a token. */
export async function download(path, asked, name) {
  const response = await sent(address(path, asked));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function sent(url, signal, tries = MOST_TRIES) {
  const limits = [AbortSignal.timeout(TIMEOUT_MS), ...(signal ? [signal] : [])];
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  let response;
  try {
    // The API has a route of its own for people.
    const place = isOfPerson() ? url.replace("/v1/", "/people/v1/") : url;
    response = await fetch(place, { headers, signal: AbortSignal.any(limits), redirect: "error" });
  } catch (failure) {
    if (signal?.aborted) throw failure;
    throw unreachable(failure);
  }
  const role = response.headers.get("Metering-Role");
  if (role) sessionStorage.setItem(ROLE, role);
  if (response.ok) return response;
  const problem = await problemOf(response);
  const soon = problem.status === TOO_MUCH && problem.retry_s && problem.retry_s <= SOON_S;
  if (!soon || tries <= 1) throw problem;
  // Whoever looks at one view after the other may have two large questions in work: the next one waits its turn.
  await new Promise((done) => setTimeout(done, problem.retry_s * 1000));
  signal?.throwIfAborted();
  return sent(url, signal, tries - 1);
}

async function problemOf(response) {
  const retry = Number(response.headers.get("Retry-After")) || null;
  const text = await response.text();
  try {
    return new Problem({ ...exactJson(text), status: response.status, retry_s: retry });
  } catch {
    const detail = `The server answered ${response.status} without a word of explanation.`;
    return new Problem({ status: response.status, title: "No answer", detail, retry_s: retry });
  }
}

function unreachable(failure) {
  const late = failure.name === "TimeoutError";
  return new Problem({
    title: late ? "No answer in time" : "The API cannot be reached",
    detail: late
      ? "It took longer than a minute. Ask for a shorter range, or filter by an account."
      : "Is it still running? Look at the terminal in which you started it, then try again.",
  });
}

function tooLong() {
  return new Problem({
    status: 422,
    title: "Too many rows for a page",
    detail:
      "Split by another column or shorten the range. As a file, the answer can have more rows: take CSV or Parquet.",
  });
}
