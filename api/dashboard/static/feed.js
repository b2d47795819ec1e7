// The stream of events: one connection that comes back by itself and misses nothing.

import { open } from "./api.js";
import { frames } from "./sse.js";

const HISTORY = 100; // sequences before the present that a fresh page asks for
const SILENCE_MS = 40_000; // the server says something every 15 s
const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 15_000;
const HIDDEN_MS = 60_000;

/**
 * Calls `onEvent(event, isNews)` for every event, in order and once; `onReset(reason)` when those
 * in between cannot be had; `onState(state, detail)` with `live`, `waiting` (milliseconds),
 * `refused` (why; it does not try again).
 */
export class Feed {
  #last = null; // id by which it resumes
  #present = 0; // what happened up to here is history, not news
  #retryMs = 1000;
  #failures = 0;
  #isFresh = true;
  #isResting = false;
  #stop = new AbortController();
  #wake = () => {};
  #hangUp = () => {};

  constructor({ onEvent, onReset, onState }) {
    Object.assign(this, { onEvent, onReset, onState });
  }

  start() {
    const { signal } = this.#stop;
    addEventListener("online", () => this.#wake(), { signal });
    this.#restWhileHidden(signal);
    this.#run(signal);
  }

  stop() {
    this.#stop.abort();
    this.#wake();
  }

  async #run(signal) {
    while (!signal.aborted) {
      try {
        if (this.#last === null) await this.#findPresent();
        for await (const frame of this.#connect()) this.#take(frame);
      } catch (error) {
        if (signal.aborted) return;
        if (error.isRefusal) return this.onState("refused", error.message);
        this.#failures += 1;
      }
      if (!signal.aborted) await this.#pause();
    }
  }

  /** The server tells where the present is; a page begins a little earlier. */
  async #findPresent() {
    for await (const frame of this.#connect()) {
      const [, epoch, sequence] = /^(.*)-(\d+)$/.exec(frame.id);
      this.#present = Number(sequence);
      this.#last = `${epoch}-${Math.max(0, this.#present - HISTORY)}`;
      return;
    }
  }

  async *#connect() {
    const connection = new AbortController();
    const headers = { Accept: "text/event-stream" };
    if (this.#last !== null) headers["Last-Event-ID"] = this.#last;
    this.#hangUp = () => connection.abort();
    let watchdog = setTimeout(this.#hangUp, SILENCE_MS);
    try {
      const signal = AbortSignal.any([connection.signal, this.#stop.signal]);
      const answer = await open("events", { headers, signal });
      for await (const frame of frames(answer)) {
        clearTimeout(watchdog);
        watchdog = setTimeout(this.#hangUp, SILENCE_MS);
        yield frame;
      }
    } finally {
      clearTimeout(watchdog);
      connection.abort();
    }
  }

  #take(frame) {
    if (frame.id !== null) this.#last = frame.id;
    if (frame.retry !== null) {
      this.#retryMs = frame.retry;
      this.#failures = 0;
      this.onState("live");
    }
    if (frame.data === "") return;
    const told = JSON.parse(frame.data);
    if (frame.event === "message") this.onEvent(told, told.sequence > this.#present);
    else if (frame.event === "reset") this.#reset(told.reason);
    this.#isFresh = false;
  }

  #reset(reason) {
    // A stream that is shorter than what a fresh page asks for is no loss.
    if (this.#isFresh) return;
    this.#present = 0;
    this.onReset(reason);
  }

  /** As long as the server asked for, longer after every failure; shorter when woken. */
  async #pause() {
    const patience = this.#failures ? FIRST_WAIT_MS * 2 ** this.#failures : this.#retryMs;
    const wait = Math.min(LONGEST_WAIT_MS, patience) * (0.75 + Math.random() / 2);
    this.onState("waiting", wait);
    await this.#woken(wait);
    while (this.#isResting && !this.#stop.signal.aborted) await this.#woken();
  }

  #woken(timeoutMs = null) {
    return new Promise(resolve => {
      this.#wake = resolve;
      if (timeoutMs !== null) setTimeout(resolve, timeoutMs);
    });
  }

  /** Browsers grant a server few connections: a page that nobody looks at gives its own back. */
  #restWhileHidden(signal) {
    let timer;
    const rest = () => {
      this.#isResting = true;
      this.#hangUp();
    };
    const resume = () => {
      clearTimeout(timer);
      this.#isResting = false;
      this.#wake();
    };
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) timer = setTimeout(rest, HIDDEN_MS);
      else resume();
    }, { signal });
    // Browsers keep pages that were left, for the way back, with all that is open in them.
    addEventListener("pagehide", rest, { signal });
    addEventListener("pageshow", resume, { signal });
  }
}
