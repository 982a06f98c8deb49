// Sign-in at the organisation's identity provider: authorization code with PKCE (RFC 7636), without a secret.

import { Problem, setToken, SIGN_IN_KEY } from "./api.js";
import { h } from "./dom.js";
import { commandOf } from "./messages.js";

const PATIENCE_MS = 20_000;
const WORD_BYTES = 32;
const LATER = "The provider cannot answer now. Sign in again in a minute.";
const NOT_YOURS = "You have no access to this application there. Ask whoever runs the provider.";
const AGAIN = "Sign in again: what the provider gave was used before, or too late.";
const PASTED = "What your organisation's sign-in gave you works here, too, if this stage has one.";
const SIGN_IN = "What you may see depends on your groups. Whoever has a token opens the page with it.";
const TOKEN = "What you may see depends on a token. It stays in this tab, and goes when you close it.";
const ADVICE = {
  access_denied: NOT_YOURS,
  consent_required: NOT_YOURS,
  invalid_grant: AGAIN,
  server_error: LATER,
  temporarily_unavailable: LATER,
};

/** Goes to the provider, which comes back to this page. What comes back is compared with what is kept here. */
export async function goToProvider(provider) {
  const endpoint = await authorizationEndpoint(provider);
  const kept = { state: word(), nonce: word(), verifier: word(), back: location.search };
  const asked = {
    response_type: "code",
    client_id: provider.client,
    redirect_uri: here(),
    scope: provider.scopes,
    state: kept.state,
    nonce: kept.nonce,
    code_challenge: encoded(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(kept.verifier))),
    code_challenge_method: "S256",
  };
  for (const [name, value] of Object.entries(asked)) endpoint.searchParams.set(name, value);
  sessionStorage.setItem(SIGN_IN_KEY, JSON.stringify(kept));
  location.assign(endpoint.href);
}

/** Exchanges the code of an answer for the token that the API takes. */
export async function finish({ given, kept }, provider) {
  // Before this comparison, nothing that the address says is believed or shown.
  if (!kept || given.get("state") !== kept.state)
    throw failed("This answer belongs to no sign-in that began in this tab. Sign in again.");
  if ((given.get("iss") ?? provider.issuer) !== provider.issuer)
    throw failed("This answer is of another provider. Sign in again, and tell whoever runs the service.");
  if (given.has("error")) throw refusedBy(given.get("error"), given.get("error_description"), provider);
  const form = {
    grant_type: "authorization_code",
    code: given.get("code"),
    redirect_uri: here(),
    client_id: provider.client,
    code_verifier: kept.verifier,
  };
  const got = await answerOf(provider.token_endpoint, provider, { method: "POST", body: new URLSearchParams(form) });
  const claims = claimsOf(got.id_token);
  const audiences = [claims?.aud].flat();
  if (claims?.iss !== provider.issuer || !audiences.includes(provider.client) || claims.nonce !== kept.nonce)
    throw failed("What the provider gave is not for this sign-in. Sign in again, and tell whoever runs the service.");
  // The authorizer compares the audience: an id token's is the client, an access token's is the API.
  const token = provider.audience === provider.client ? got.id_token : got.access_token;
  if (!claimsOf(token))
    throw failed(`The provider's access token is no JWT. ${settings("api_client_id as api_audience, too")}`);
  setToken(token);
}

async function authorizationEndpoint(provider) {
  const found = await answerOf(provider.discovery, provider, {});
  const [stated, known] = [found.token_endpoint, provider.token_endpoint];
  if (found.issuer !== provider.issuer) throw failed(`The issuer is ${found.issuer}. ${settings("it as api_issuer")}`);
  if (stated !== known) throw failed(`The token endpoint is ${stated}. ${settings("it as api_token_endpoint")}`);
  // An address of another scheme could be code.
  const endpoint = String(found.authorization_endpoint);
  if (!endpoint.startsWith(`${new URL(provider.issuer).protocol}//`))
    throw failed("The provider has no address to sign in at. Whoever runs it can tell why.");
  return new URL(endpoint);
}

async function answerOf(url, provider, options) {
  const whole = { ...options, credentials: "omit", redirect: "error", signal: AbortSignal.timeout(PATIENCE_MS) };
  let response, answer;
  try {
    response = await fetch(url, whole);
    answer = await response.json();
  } catch {
    const cure = `It must let pages of ${location.origin} ask (CORS), as it does for a single-page application.`;
    throw failed(`${new URL(url).host} gave this page no answer. Sign in again. If it stays so: ${cure}`);
  }
  if (!response.ok) throw refusedBy(answer.error, answer.error_description, provider);
  return answer;
}

function refusedBy(error, description, provider) {
  const ours = `client ${provider.client}, scopes ${provider.scopes}, redirect address ${here()}`;
  const cure = `Whoever runs the service compares with what the provider has: ${ours}.`;
  const says = description ? ` (${description})` : "";
  return failed(`The provider refused: ${error}${says}. ${Object.hasOwn(ADVICE, error) ? ADVICE[error] : cure}`);
}

function settings(what) {
  return `Whoever runs the service sets ${what}.`;
}

function failed(detail) {
  return new Problem({ title: "Not signed in", detail });
}

/** Claims of a JWT; null if it is none. */
function claimsOf(token) {
  try {
    const bytes = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(bytes, (each) => each.charCodeAt(0))));
  } catch {
    return null;
  }
}

function here() {
  return new URL(".", location.href).href;
}

function word() {
  return encoded(crypto.getRandomValues(new Uint8Array(WORD_BYTES)));
}

function encoded(bytes) {
  const text = btoa(String.fromCharCode(...new Uint8Array(bytes)));
  return text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** Asks for a token, or to sign in at a provider. `why` says why the token that was there is not enough. */
export function signIn(why, onToken, place, provider) {
  const field = h("input", {
    id: "token",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    "aria-describedby": "token-help",
    placeholder: "mtr_\u2026",
  });
  const where = `--region ${place.regions.split(",")[0]} --stage ${place.stage}`;
  const made = `metering token create --role analyst --days 30 ${where}`;
  const served = `metering serve ${where}`;
  return h(
    "form",
    {
      class: "card sign-in",
      onsubmit: (event) => {
        event.preventDefault();
        onToken(field.value.trim());
      },
    },
    h("h1", { tabindex: "-1", id: "title" }, provider ? "Sign in" : "A token, please"),
    h("p", { role: provider && why ? "alert" : null }, why || (provider ? SIGN_IN : TOKEN)),
    provider
      ? h("button", { type: "button", class: "primary", onclick: provider.go }, `Sign in at ${provider.host}`)
      : null,
    h("label", { for: "token" }, "Token"),
    h("div", { class: "joined" }, field, h("button", { type: "submit", class: provider ? null : "primary" }, "Open")),
    h(
      "div",
      { class: "help", id: "token-help" },
      h("p", {}, "No token yet? Whoever runs the service makes one:"),
      commandOf(made),
      h("p", {}, "With access to the AWS account, none is needed. This opens the page with its own:"),
      commandOf(served),
      provider ? null : h("p", {}, PASTED),
    ),
  );
}
