// The page: from its address to a view, and back.

import { isOfPerson, knownRole, Problem, setToken, takeToken, token } from "./api.js";
import { announce, clear, go, h } from "./dom.js";
import { completeness, failure, loading, signIn } from "./messages.js";
import { finish, goToProvider, takeAnswer } from "./sign_in.js";
import { parsed, written } from "./state.js";
import { twins } from "./twins.js";
import { batch, hour } from "./views/batch.js";
import { accounts } from "./views/accounts.js";
import { freshness, quarantine, sources } from "./views/operators.js";
import { trace } from "./views/trace.js";
import { cost, usage } from "./views/usage.js";

// View -> its name, what the API must offer for it, who may see it, and whether it stands among the tabs.
const VIEWS = {
  usage: { name: "Usage", route: "usage", build: usage, tab: true },
  cost: { name: "Cost", route: "cost", build: cost, tab: true },
  accounts: { name: "Accounts", route: "accounts", build: accounts, tab: true },
  trace: { name: "Trace", route: "trace", build: trace, tab: true },
  freshness: { name: "Freshness", route: "freshness", build: freshness, tab: true },
  sources: { name: "Sources", route: "sources", build: sources, tab: true, role: "operator" },
  quarantine: { name: "Quarantine", route: "quarantine", build: quarantine, tab: true, role: "operator" },
  batch: { name: "Batch", route: "batches", build: batch },
  hour: { name: "Hour", route: "hours", build: hour },
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
  const view = VIEWS[state.view].build({ state, now_s, navigate, place });
  document.title = `${view.title} \u00b7 metering`;
  const results = h(
    "div",
    { id: "results", class: "results", "aria-busy": String(Boolean(view.load)) },
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
    results,
  );
  before?.remove_();
  // Whoever was in the form stays there; who came by a link is told where they are.
  if (focus) document.getElementById("title").focus({ preventScroll: true });
  else if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  if (!view.load) return;
  try {
    const { answer, parts, twins: choices } = await view.load(signal);
    if (signal.aborted) return;
    clear(results, completeness(answer), parts, choices ? twins(choices, place) : null);
    announce(`${view.title} loaded${answer.rows ? `, ${answer.rows.length} rows` : ""}`);
  } catch (problem) {
    if (signal.aborted) return;
    if (problem instanceof Problem && problem.status === 401) return refused(problem);
    clear(results, failure(problem, { again: () => show({ focus: false }), view: state.view }));
  }
  results.setAttribute("aria-busy", "false");
  tabs(state);
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
    await finish(answer, provider);
  } catch (problem) {
    return askForToken(problem.message);
  }
  show();
}

function askForToken(why) {
  document.title = "metering";
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
    ([, view]) => view.tab && offered.includes(view.route) && (!view.role || !role || view.role === role),
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
