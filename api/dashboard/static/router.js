// Which page is shown: the part of the address behind `#`, so that links and the way back work.

import { find, make } from "./dom.js";

/** `routes`: path, with `*` for an id, → `(context) => { title, bar, body }`. */
export class Router {
  #owned = [];
  #shown = null;

  constructor(routes, context) {
    Object.assign(this, { routes, context });
  }

  start() {
    addEventListener("hashchange", () => this.show());
    this.show();
  }

  show() {
    const address = location.hash.replace(/^#\/?/, "");
    const [path, asked] = address.split("?");
    const steps = path.split("/").filter(Boolean).map(decoded);
    const page = this.#find(steps);
    for (const owned of this.#owned.splice(0)) owned.close();
    const { title, bar = [], body } = page({
      ...this.context,
      steps,
      id: steps[1] ?? null,
      query: Object.fromEntries(new URLSearchParams(asked ?? "")),
      own: closeable => {
        this.#owned.push(closeable);
        return closeable;
      },
      rename: name => this.#rename(name),
    });
    find("page").replaceChildren(
      make("div", { class: "bar" }, make("h2", { id: "heading", tabindex: -1 }), ...bar), ...body);
    find("page").dataset.address = address;
    this.#rename(title);
    this.#mark(steps[0] ?? "");
    // Whoever only narrows a list stays where he is; the first page is no step at all.
    if (this.#shown !== null && this.#shown !== path) {
      if (document.activeElement !== find("search")) find("heading").focus(); // he goes on typing
      scrollTo(0, 0);
    }
    this.#shown = path;
  }

  close() {
    for (const owned of this.#owned.splice(0)) owned.close();
  }

  #find(steps) {
    const found = Object.keys(this.routes).find(pattern => {
      const parts = pattern.split("/").filter(Boolean);
      return parts.length === steps.length
        && parts.every((part, index) => part === "*" || part === steps[index]);
    });
    return this.routes[found] ?? missing;
  }

  #rename(title) {
    find("heading").textContent = title;
    document.title = `${title} · Modelyard`;
  }

  #mark(section) {
    for (const one of document.querySelectorAll("header nav a[data-section]")) {
      if (one.dataset.section === section) one.setAttribute("aria-current", "page");
      else one.removeAttribute("aria-current");
    }
  }
}

function decoded(step) {
  try {
    return decodeURIComponent(step);
  } catch {
    return step;
  }
}

const missing = () => ({
  title: "Not found", body: [make("p", {}, "There is no such page: choose one above.")],
});
