// The feed as the reader sees it: what happened, newest first. What only progresses is one line.

import { badge, clock, link, make } from "./dom.js";
import { announce } from "./notices.js";

const KEPT = 300;
const TOLD = new Set(["READY", "FAILED", "RUNNING", "UNHEALTHY", "STOPPED", "LOST", "DELETED"]);
/** Where the page of a record is, by its resource. */
export const PAGES = {
  image: "images", container: "containers", deployment: "deployments", node: "nodes", upload: "uploads",
  registry: "registries", secret: "secrets", token: "tokens", user: "users", organisation: "organisations",
  webhook: "webhooks", build: "builds",
};

export class Events {
  #lines = []; // oldest first: { event } or { text }
  #progressing = new Map(); // record → kind → its line, until something else happens to it
  #views = new Set();
  #followers = new Map(); // subject → listeners

  add(event, isNews) {
    const { name, status } = event.data ?? {};
    for (const listener of this.#followers.get(event.subject) ?? []) listener(event);
    if (isNews && TOLD.has(status)) announce(`${event.resource} ${name ?? ""} is ${status}`);
    const known = this.#progressing.get(event.subject)?.get(event.kind);
    if (known) known.event = event;
    else this.#append({ event });
    for (const view of this.#views) view.refresh();
  }

  /** A line about the feed itself. */
  remark(text) {
    announce(text);
    this.#append({ text });
    for (const view of this.#views) view.refresh();
  }

  /** `listener` hears what happens to the record `subject` from now on. */
  follow(subject, listener) {
    if (!this.#followers.has(subject)) this.#followers.set(subject, new Set());
    const listeners = this.#followers.get(subject).add(listener);
    return {
      close: () => {
        listeners.delete(listener);
        if (listeners.size === 0) this.#followers.delete(subject);
      },
    };
  }

  /** Draws into `list` what happens. */
  show(list) {
    const view = new View(list, () => this.#lines);
    this.#views.add(view);
    view.refresh();
    return { view, close: () => this.#views.delete(view) };
  }

  #append(line) {
    const { subject, kind } = line.event ?? {};
    if (kind?.endsWith("progressed")) {
      if (!this.#progressing.has(subject)) this.#progressing.set(subject, new Map());
      this.#progressing.get(subject).set(kind, line);
    } else this.#progressing.delete(subject);
    this.#lines.push(line);
    if (this.#lines.length > KEPT) this.#lines.shift();
  }
}

class View {
  #drawn = new Map(); // line → what of it is drawn, and where
  #frame = 0;
  isPaused = false;
  onHeld = () => {};

  constructor(list, read) {
    Object.assign(this, { list, read });
  }

  pause(isPaused) {
    this.isPaused = isPaused;
    this.refresh();
  }

  refresh() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      if (!this.isPaused) this.#draw();
      this.onHeld(this.read().filter(line => !this.#drawn.has(line)).length);
    });
  }

  #draw() {
    const lines = this.read();
    const kept = new Set(lines);
    for (const [line, { element }] of this.#drawn)
      if (!kept.has(line)) {
        element.remove();
        this.#drawn.delete(line);
      }
    for (const line of lines) {
      const before = this.#drawn.get(line);
      if (before && before.event === line.event) continue;
      const element = line.event ? row(line.event) : make("li", { class: "remark" }, line.text);
      if (before) before.element.replaceWith(element);
      else this.list.prepend(element);
      this.#drawn.set(line, { event: line.event, element });
    }
  }
}

/** How far it is, of an event that tells it. */
export function progressOf({ kind, data }) {
  return kind.endsWith("progressed") ? (data?.progress ?? data?.upload ?? data)?.percentage : undefined;
}

function row(event) {
  const { name, status, reason } = event.data ?? {};
  const title = [event.actor, event.subject].filter(Boolean).join(" · ");
  const page = PAGES[event.resource];
  const percentage = progressOf(event);
  const label = name ? make("strong", {}, String(name)) : "";
  return make("li", { "data-sequence": event.sequence, title },
    clock(event.time), " ",
    make("span", { class: "kind" }, `${event.resource}.${event.kind}`), " ",
    label && page ? link([page, event.subject], label) : label, " ",
    status ? badge(String(status)) : "",
    percentage >= 0 ? ` ${percentage} %` : "",
    reason ? make("div", { class: "soft" }, String(reason)) : "");
}

/** The page of all events. */
export function eventsPage({ events, own }) {
  const pause = make("button", { id: "pause", "aria-pressed": "false" }, "Pause");
  const list = make("ol", { id: "events", class: "events", tabindex: 0, "aria-labelledby": "heading" });
  const shown = own(events.show(list));
  const label = held => {
    pause.textContent = shown.view.isPaused ? `Resume (${held} new)` : "Pause";
    pause.setAttribute("aria-pressed", String(shown.view.isPaused));
  };
  shown.view.onHeld = label;
  pause.addEventListener("click", () => shown.view.pause(!shown.view.isPaused));
  return { title: "Events", bar: [pause], body: [list] };
}
