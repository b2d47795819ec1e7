// The history of one record: every event from its submission on, and how long after the one before.

import { call } from "./api.js";
import { badge, clock, make, soft } from "./dom.js";
import { progressOf } from "./events.js";

const PAGE = 1000;
const MOST_PAGES = 5;
const RETRY_MS = 3000;
const MOST_LINES = 500;

export class Timeline {
  #events = []; // oldest first
  #early = []; // heard before what happened until now was read
  #complete = true;
  #isRead = false;
  #isClosed = false;
  #frame = 0;
  #summary = soft("Loading…", "p");
  #list = make("ol", { class: "events", tabindex: 0, "aria-labelledby": "timeline-heading" });

  /** Of the record `id` of `resource`, as paths call it; follows `events` until it is closed. */
  constructor(resource, id, events) {
    this.path = `${resource}/${encodeURIComponent(id)}/timeline`;
    this.element = make("section", { id: "timeline", "aria-labelledby": "timeline-heading" },
      make("h3", { id: "timeline-heading" }, "Timeline"), this.#summary, this.#list);
    this.followed = events.follow(id, event => this.#hear(event));
    this.#read();
  }

  close() {
    this.#isClosed = true;
    this.followed.close();
  }

  async #read() {
    while (!this.#isRead && !this.#isClosed) {
      try {
        await this.#readAll();
      } catch (error) {
        this.element.hidden = error.status === 404; // the page says that there is no such record
        this.#summary.textContent = error.message;
        if (error.status >= 400 && error.status < 500) return;
        await new Promise(resolve => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  async #readAll() {
    this.#events = [];
    let cursor = null;
    let pages = 0;
    do {
      const part = await call(this.path, { query: { limit: PAGE, cursor } });
      this.#events.push(...part.events);
      this.#complete = part.complete;
      cursor = part.next;
    } while (cursor !== null && ++pages < MOST_PAGES && !this.#isClosed);
    this.#isRead = true;
    for (const event of this.#early.splice(0)) this.#hear(event);
    this.#draw();
  }

  #hear(event) {
    if (!this.#isRead) return void this.#early.push(event);
    if (event.sequence <= (this.#events.at(-1)?.sequence ?? 0)) return;
    this.#events.push(event);
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #draw() {
    const steps = stepsOf(this.#events);
    this.#summary.textContent = [
      steps.length ? `${spoken(steps.at(-1).elapsed)} from the first event to the last.` : "",
      this.#complete ? "" : "Older events are kept no more.",
      steps.length > MOST_LINES ? `The last ${MOST_LINES} of ${steps.length} steps.` : "",
    ].filter(Boolean).join(" ");
    this.#list.replaceChildren(...steps.slice(-MOST_LINES).map(line));
  }
}

/** What only progresses is one step, that ends with the last of its kind. */
function stepsOf(events) {
  const steps = [];
  const first = events.length ? Date.parse(events[0].time) : 0;
  let last = first;
  for (const event of events) {
    const now = Date.parse(event.time);
    // Machines whose clocks differ may tell of a later event an earlier time.
    const step = { event, took: Math.max(now - last, 0), elapsed: Math.max(now - first, 0) };
    const before = steps.at(-1);
    if (before?.event.kind === event.kind && event.kind.endsWith("progressed"))
      steps.splice(-1, 1, { ...step, took: before.took + step.took });
    else steps.push(step);
    last = now;
  }
  return steps;
}

function line({ event, took, elapsed }) {
  const { status, reason } = event.data ?? {};
  const percentage = progressOf(event);
  return make("li", { "data-sequence": event.sequence, title: event.actor ?? null },
    clock(event.time), " ",
    make("span", { class: "kind" }, event.kind), " ",
    status ? badge(String(status)) : "",
    percentage >= 0 ? ` ${percentage} %` : "",
    make("span", { class: "took", title: `${spoken(elapsed)} after the first` }, ` +${spoken(took)}`),
    reason ? make("div", { class: "soft" }, String(reason)) : "");
}

/** `340 ms`, `12.5 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`. */
export function spoken(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  for (const [unit, size, less, part] of [["d", 86400, "h", 3600], ["h", 3600, "min", 60], ["min", 60, "s", 1]])
    if (seconds >= size)
      return `${Math.floor(seconds / size)} ${unit} ${Math.floor((seconds % size) / part)} ${less}`;
}
