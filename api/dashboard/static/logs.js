// What a container wrote: its last lines, and more as it writes.

import { open } from "./api.js";
import { make } from "./dom.js";
import { frames } from "./sse.js";

const KEPT = 5000; // pieces of output
const RETRY_MS = 2000;
const EVERYTHING = 100_000;
const COLOURS = /\x1b\[[0-9;?]*[ -/]*[@-~]/g;

export class Logs {
  #output = make("pre", { id: "logs-output", tabindex: 0, "aria-labelledby": "heading" });
  #state = make("span", { id: "logs-state", role: "status" });
  #follow = make("input", { id: "logs-follow", type: "checkbox", checked: true });
  #tail = make("select", { id: "logs-tail" },
    ...[100, 1000, 10000].map(lines => make("option", {}, String(lines))));
  #reading = new AbortController();
  #last = { time: null, count: 0 };

  /** Of one container, by its uuid; reads until it is closed. */
  constructor(container) {
    this.container = container;
    this.element = make("section", { id: "logs", "aria-labelledby": "heading" },
      make("div", { class: "bar controls" },
        make("label", {}, "Last ", this.#tail, " lines"),
        make("label", {}, this.#follow, " Follow"), this.#state),
      this.#output);
    // Browsers keep pages that were left, for the way back, with all that is open in them.
    this.hide = () => this.#reading.abort();
    addEventListener("pagehide", this.hide);
    for (const control of [this.#follow, this.#tail])
      control.addEventListener("change", () => this.#begin());
    this.#begin();
  }

  close() {
    removeEventListener("pagehide", this.hide);
    this.hide();
  }

  #begin() {
    this.#reading.abort();
    this.#reading = new AbortController();
    this.#last = { time: null, count: 0 };
    this.#output.replaceChildren();
    this.#read(this.#reading.signal);
  }

  async #read(signal) {
    while (!signal.aborted) {
      try {
        this.#state.textContent = "Asking the node…";
        const hasEnded = await this.#readOnce(signal);
        this.#state.textContent = this.#follow.checked ? "It has ended." : "";
        if (hasEnded || !this.#follow.checked) return;
      } catch (error) {
        if (signal.aborted) return;
        this.#state.textContent = error.message;
        if (error.status >= 400 && error.status < 500) return;
      }
      await new Promise(resolve => setTimeout(resolve, RETRY_MS));
    }
  }

  /** True when the container has said its last; false when only the server or the line has. */
  async #readOnce(signal) {
    const since = this.#last.time;
    const query = {
      follow: this.#follow.checked, since, tail: since ? EVERYTHING : this.#tail.value,
    };
    const headers = { Accept: "text/event-stream" };
    const answer = await open(`containers/${encodeURIComponent(this.container)}/logs`, { query, headers, signal });
    this.#state.textContent = this.#follow.checked ? "Following" : "";
    let repeats = this.#last.count;
    for await (const frame of frames(answer)) {
      if (frame.event === "end") return true;
      if (frame.event === "error") throw new Error(JSON.parse(frame.data).detail);
      if (frame.event !== "log") continue;
      const entry = JSON.parse(frame.data);
      // Asking for what came since then repeats what came at that very moment.
      if (entry.time === since && repeats-- > 0) continue;
      this.#append(entry);
    }
    return false;
  }

  #append({ time, stream, text }) {
    const { time: before, count } = this.#last;
    this.#last = { time, count: time === before ? count + 1 : 1 };
    const box = this.#output;
    const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    box.append(make("span", { class: stream, title: time }, text.replace(COLOURS, "")));
    while (box.childElementCount > KEPT) box.firstElementChild.remove();
    if (isAtEnd) box.scrollTop = box.scrollHeight;
  }
}
