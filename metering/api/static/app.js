// The page: from its address to a view, and back.

import { isOfPerson, knownRole, Problem, setToken, takeAnswer, takeToken, token } from "./api.js";
import { announce, clear, go, h } from "./dom.js";
import { completeness, failure, loading, nothing, notYet } from "./messages.js";
import { parsed, unknownWords, written } from "./state.js";
import { cost, usage } from "./views/usage.js";

// View -> its name among the tabs, the words of the address that are its own, who may see it if not all, and its
// function if it does not come later. The API must have a route of its name. Those without a tab are linked.
const VIEWS = {
  usage: { name: "Usage", build: usage },
  cost: { name: "Cost", build: cost },
  who: { name: "Who", words: ["resource", "path", "owner", "workload", "destination", "dollars"] },
  accounts: { name: "Accounts", words: ["month", "prefix"] },
  trace: { name: "Trace" },
  freshness: { name: "Freshness" },
  budgets: { name: "Budgets", staff: true },
  reports: { name: "Reports", staff: true },
  sources: { name: "Sources", role: "operator", words: ["gaps", "silent"] },
  quarantine: { name: "Quarantine", role: "operator", words: ["reason", "kind", "cursor"] },
  batch: { linked: true, words: ["id"] },
  hour: { linked: true, words: ["hour"] },
};

const main = document.getElementById("main");
const place = { regions: document.body.dataset.regions, stage: document.body.dataset.stage };
const provider = JSON.parse(document.body.dataset.signIn ?? "null");
const offered = (document.body.dataset.offered ?? "").split(" ");
let running = null;

function navigate(state) {
  history.pushState(null, "", written(state));
  show({ focus: false });
}

async function show({ focus = true } = {}) {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const state = parsed(location.search);
  const now_s = Math.floor(Date.now() / 1000);
  // Each region has hours of its own to read: of several, a day is asked for at first.
  if (place.regions.includes(",") && !state.range && !state.from && !state.to) state.range = "24h";
  tabs(state);
  if (!token()) return askForToken("");
  const declared = VIEWS[state.view];
  const build = declared.build ?? (await import("./views/later.js").catch(() => null))?.VIEWS_LATER[state.view];
  if (signal.aborted) return;
  if (!build) return renewed();
  const view = build({ state, now_s, navigate, place });
  document.title = `${view.title} \u00b7 metering`;
  const results = h(
    "div",
    { id: "results", class: "results", "aria-busy": String(Boolean(view.load)), "data-loads": Boolean(view.load) },
    view.load ? loading() : view.hint,
  );
  const before = main.querySelector(".chart-holder");
  const focused = document.activeElement?.id;
  clear(
    main,
    h(
      "div",
      { class: "page-head" },
      h("h1", { id: "title", tabindex: "-1" }, view.title),
      view.subtitle ? h("p", { class: "subtitle" }, view.subtitle) : null,
    ),
    view.form,
    unknown(unknownWords(location.search, state, declared.words ?? [], view.splits)),
    results,
  );
  before?.remove_();
  // Whoever was in the form stays there; who came by a link is told where they are.
  if (focus) document.getElementById("title").focus({ preventScroll: true });
  else if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  if (!view.load) return;
  let after = null;
  try {
    const { answer, parts, twins: choices, after: more } = await view.load(signal);
    if (signal.aborted) return;
    clear(results, completeness(answer), parts, choices ? elsewhere(choices) : null);
    announce(`${view.title} loaded${answer.rows ? `, ${answer.rows.length} rows` : ""}`);
    after = more;
  } catch (problem) {
    if (signal.aborted) return;
    if (problem instanceof Problem && problem.status === 401) return refused(problem);
    const again = () => show({ focus: false });
    clear(results, notYet(problem, state) ?? failure(problem, { again, view: state.view }));
  }
  results.setAttribute("aria-busy", "false");
  tabs(state);
  // What comes later is missed by nobody: figures stand without it.
  await after?.().catch(() => null);
  results.dataset.whole = "true";
}

// What lies below the fold comes once somebody is near it.
function elsewhere(choices) {
  const holder = h("div", { class: "elsewhere" });
  const near = async ([{ isIntersecting }]) => {
    if (!isIntersecting) return;
    observer.disconnect();
    const { twins } = await import("./twins.js");
    clear(holder, twins(choices, place));
  };
  const observer = new IntersectionObserver(near, { rootMargin: "200px" });
  observer.observe(holder);
  return holder;
}

// After an upgrade, the files that this page would load are gone.
function renewed() {
  const again = () => location.reload();
  const button = h("button", { type: "button", class: "primary", onclick: again }, "Load the page again");
  clear(main, nothing("There is a newer page", [button]));
}

function unknown(said) {
  return said.length
    ? h("div", { class: "banner warn", id: "unknown", role: "note" }, said.map((text) => h("p", {}, text)))
    : null;
}

function refused(problem) {
  // The gateway refuses what is over without a word.
  const why = isOfPerson()
    ? "Your sign-in has ended, or is not for this service. Sign in again. If that does not help, ask whoever runs it."
    : `${problem.detail} Tokens end after their time, or when they are revoked.`;
  setToken("");
  tabs(parsed(location.search));
  askForToken(why);
}

async function comeBack(answer) {
  clear(main, loading());
  try {
    const { finish } = await import("./sign_in.js");
    await finish(answer, provider);
  } catch (problem) {
    return askForToken(problem.message);
  }
  show();
}

async function askForToken(why) {
  document.title = "metering";
  const { goToProvider, signIn } = await import("./sign_in.js");
  clear(
    main,
    signIn(
      why,
      (text) => {
        setToken(text);
        show();
      },
      place,
      provider && {
        host: new URL(provider.issuer).host,
        go: () => goToProvider(provider).catch((problem) => askForToken(problem.message)),
      },
    ),
  );
}

function tabs(state) {
  const role = knownRole();
  const seen = Object.entries(VIEWS).filter(
    ([name, view]) =>
      !view.linked &&
      offered.includes(name) &&
      (!view.role || !role || view.role === role) &&
      !(view.staff && role === "customer"),
  );
  const kept = state.view === "usage" || state.view === "cost" ? state : null;
  clear(
    document.getElementById("tabs"),
    token()
      ? seen.map(([name, view]) => {
          // Usage and cost are two looks at one question.
          const href = written(
            kept && (name === "usage" || name === "cost") ? { ...kept, view: name } : { view: name },
          );
          return go(href, { "aria-current": name === state.view ? "page" : null }, view.name);
        })
      : [],
  );
  clear(
    document.getElementById("who"),
    token()
      ? [
          role ? h("span", { class: "role" }, role) : null,
          h("button", { type: "button", class: "quiet", onclick: leave }, "Forget token"),
        ]
      : [],
  );
}

function leave() {
  setToken("");
  show();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='?']");
  if (
    !link ||
    event.defaultPrevented ||
    event.button ||
    event.ctrlKey ||
    event.metaKey ||
    event.shiftKey ||
    event.altKey
  )
    return;
  event.preventDefault();
  history.pushState(null, "", link.getAttribute("href"));
  show();
  scrollTo(0, 0);
});
addEventListener("popstate", () => show());
addEventListener("hashchange", () => {
  if (takeToken()) show();
});

takeToken();
const answer = provider && takeAnswer();
if (answer) comeBack(answer);
else show({ focus: false });
