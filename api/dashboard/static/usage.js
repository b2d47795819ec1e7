// What a container uses at this moment, as its agent measured it last.

import { call } from "./api.js";
import { bytes, make } from "./dom.js";

const POLL_MS = 5000;
const UP = new Set(["RUNNING", "UNHEALTHY"]);

export class Usage {
  #line = make("p", { id: "usage" });
  #timer;

  /** Of the container `id` of a collection. Asks until it is closed, and only while that runs. */
  constructor(collection, id) {
    this.path = `containers/${id}/stats`;
    this.isUp = () => UP.has(collection.records.get(id)?.status);
    this.element = make("section", { "aria-labelledby": "used" },
      make("h3", { id: "used" }, "Uses now"), this.#line);
    this.element.hidden = true;
    const look = () => { if (!document.hidden) this.#look(); };
    this.#timer = setInterval(look, POLL_MS);
    queueMicrotask(look);
  }

  close() {
    clearInterval(this.#timer);
  }

  async #look() {
    if (this.isUp()) {
      try {
        this.#line.textContent = inWords(await call(this.path));
      } catch (error) {
        this.#line.textContent = error.message;
      }
    }
    this.element.hidden = !this.isUp() || !this.#line.textContent;
  }
}

/** Empty while nothing was measured. */
function inWords(use) {
  const known = value => value !== null && value !== undefined;
  const parts = [
    [use.cpus, () => `${use.cpus.toFixed(2)} CPUs`],
    [use.memory_bytes, () => `${bytes(use.memory_bytes)} of ${bytes(use.memory_limit_bytes)} memory`],
    [use.network_received_bytes, () => `${bytes(use.network_received_bytes)} received`],
    [use.network_sent_bytes, () => `${bytes(use.network_sent_bytes)} sent`],
    [use.gpu_percent, () => `GPUs busy ${Math.round(use.gpu_percent)} %`],
    [use.gpu_memory_percent, () => `GPU memory ${Math.round(use.gpu_memory_percent)} %`],
  ];
  return parts.filter(([value]) => known(value)).map(([, words]) => words()).join(", ");
}
