// Elements made of plain objects. Nothing that comes from data can become markup: texts are set as texts.

/** An element. `on…` are listeners; `class`, `aria-…` and the like are attributes; null and false leave one out. */
export function h(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) made.style.setProperty(name, value);
    else if (name === "value") made.value = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export function clear(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter(Boolean));
  return element;
}

/** A link to another state of this page. */
export function go(href, properties, ...children) {
  return h("a", { href, ...properties }, ...children);
}

/** Says something to who cannot see that it changed. */
export function announce(text) {
  document.getElementById("status").textContent = text;
}

/** A command, broken between its words alone, so that an option stays whole. */
export function words(text) {
  return text.split(" ").flatMap((word, at) => [at ? " " : "", h("span", {}, word)]);
}

/** A button that copies a text, and says so. */
export function copyButton(text, what) {
  const button = h("button", { type: "button", class: "quiet", "aria-label": `Copy ${what}` }, "Copy");
  button.addEventListener("click", async () => {
    const done = await copied(text);
    button.textContent = done ? "Copied" : "Select it and copy";
    announce(done ? `Copied ${what}` : "This browser does not let a page copy here");
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  return button;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
