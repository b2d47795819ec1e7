// The feed as the reader sees it: what happened, newest first.

import { badge, clock, find, make } from "./dom.js";
import { announce } from "./notices.js";

const KEPT = 300;
const TOLD = new Set(["READY", "FAILED", "RUNNING", "UNHEALTHY", "STOPPED", "LOST", "DELETED"]);

export class Activity {
  #list = find("events");
  #pauseButton = find("pause");
  #waiting = [];
  #frame = 0;
  #isPaused = false;

  constructor() {
    this.#pauseButton.addEventListener("click", () => {
      this.#isPaused = !this.#isPaused;
      this.#schedule();
      this.#label();
    });
  }

  add(event, isNews) {
    const { name, status } = event.data ?? {};
    if (isNews && TOLD.has(status)) announce(`${event.resource} ${name ?? ""} is ${status}`);
    this.#enqueue(() => row(event));
  }

  /** A line about the feed itself. */
  remark(text) {
    announce(text);
    this.#enqueue(() => make("li", { class: "remark" }, text));
  }

  #enqueue(build) {
    this.#waiting.push(build);
    if (this.#waiting.length > KEPT) this.#waiting.shift();
    this.#schedule();
    if (this.#isPaused) this.#label();
  }

  #schedule() {
    if (this.#isPaused) return;
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#list.prepend(...this.#waiting.splice(0).reverse().map(build => build()));
      while (this.#list.children.length > KEPT) this.#list.lastElementChild.remove();
    });
  }

  #label() {
    const held = this.#waiting.length;
    this.#pauseButton.textContent = this.#isPaused ? `Resume (${held} new)` : "Pause";
    this.#pauseButton.setAttribute("aria-pressed", String(this.#isPaused));
  }
}

function row(event) {
  const { name, status, reason, progress } = event.data ?? {};
  const title = [event.actor, event.subject].filter(Boolean).join(" · ");
  return make("li", { "data-sequence": event.sequence, title },
    clock(event.time), " ",
    make("span", { class: "kind" }, `${event.resource}.${event.kind}`), " ",
    name ? make("strong", {}, String(name)) : "", " ",
    status ? badge(String(status)) : "",
    progress?.percentage >= 0 ? ` ${progress.percentage} %` : "",
    reason ? make("div", { class: "soft" }, String(reason)) : "");
}
