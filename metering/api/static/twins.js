// The same answer elsewhere: as a file, by curl, on the command line, in Python.

import { address, download, Problem } from "./api.js";
import { announce, copyButton, h, words } from "./dom.js";

const FORMATS = { json: "JSON", ndjson: "NDJSON", csv: "CSV", parquet: "Parquet" };
const COMMANDS = {
  usage: "report usage",
  cost: "cost",
  who: "who",
  accounts: "accounts",
  trace: "trace",
  batches: "batch show",
  freshness: "status",
  budgets: "budget check",
  reports: "reports list",
  organization: "organization show",
  sources: "sources",
  quarantine: "quarantine list",
};
// Words of the API that are flags or have another name on the command line.
const FLAGS = new Set(["with_corrections", "gaps", "silent", "cost"]);
// Words of the API that stand without a name there.
const ARGUMENTS = { batches: "id", who: "resource" };

/** What somebody types to see the same on the command line; empty if there is no such command. */
export function commandLine(path, asked, place) {
  const command = COMMANDS[path];
  if (!command) return "";
  const words = ["metering", ...command.split(" ")];
  const argument = ARGUMENTS[path];
  if (asked[argument]) words.push(quoted(asked[argument]));
  for (const [name, value] of Object.entries(asked)) {
    if (name === argument) continue;
    const option = `--${name.replaceAll("_", "-")}`;
    if (FLAGS.has(name)) words.push(option);
    // Each option takes one value on the command line, but for columns.
    else for (const each of name === "group_by" ? [value] : String(value).split(",")) words.push(option, quoted(each));
  }
  const region = place.regions.includes(",") ? "all" : place.regions;
  return [...words, "--region", region, "--stage", place.stage].join(" ");
}

/** What somebody types to get the same by HTTP. The token stays in the environment. */
export function curlLine(path, asked) {
  return `curl --fail-with-body -H "Authorization: Bearer $METERING_TOKEN" ${quoted(address(path, asked))}`;
}

/** A word of a shell. */
export function quoted(text) {
  return /^[A-Za-z0-9_.,:/=@%+-]+$/.test(text) ? text : `'${String(text).replaceAll("'", "'\\''")}'`;
}

/**
 * The panel below a view.
 *
 * @param choices `[{label, path, asked}]`: the questions that the view asked, the main one first
 */
export function twins(choices, place) {
  const inside = h("div", { class: "twin-body" });
  const show = (choice) => inside.replaceChildren(...lines(choice, place));
  show(choices[0]);
  const picker =
    choices.length < 2
      ? null
      : h(
          "fieldset",
          { class: "pick" },
          h("legend", { class: "hidden" }, "Which data"),
          choices.map((choice, at) =>
            h(
              "label",
              {},
              h("input", { type: "radio", name: "twin", checked: at === 0, onchange: () => show(choice) }),
              choice.label,
            ),
          ),
        );
  return h(
    "section",
    { class: "card twins", "aria-labelledby": "twins" },
    h("div", { class: "card-head" }, h("h2", { id: "twins" }, "The same data elsewhere"), picker),
    inside,
  );
}

function lines(choice, place) {
  const { path, asked } = choice;
  const texts = [
    ["Command line", commandLine(path, asked, place)],
    ["curl", curlLine(path, asked)],
  ].filter(([, text]) => text);
  return [
    h(
      "p",
      { class: "downloads" },
      Object.entries(FORMATS).map(([format, name]) => fileLink(format, name, path, asked)),
    ),
    texts.map(([name, text]) =>
      h(
        "div",
        { class: "command" },
        h("span", { class: "command-name" }, name),
        h("code", { tabindex: "0" }, words(text)),
        copyButton(text, `the ${name} line`),
      ),
    ),
  ].flat(Infinity);
}

// The address is real and can be copied; a click sends the token along, which a link cannot.
function fileLink(format, name, path, asked) {
  const words = { ...asked, format };
  const link = h("a", { href: address(path, words), class: "download", "data-format": format }, name);
  link.addEventListener("click", async (event) => {
    event.preventDefault();
    link.setAttribute("aria-busy", "true");
    try {
      await download(path, words, `${path.split("/")[0]}.${format}`);
      announce(`${name} saved`);
    } catch (problem) {
      announce(problem instanceof Problem ? problem.message : `${name} could not be saved`);
    }
    link.removeAttribute("aria-busy");
  });
  return link;
}
