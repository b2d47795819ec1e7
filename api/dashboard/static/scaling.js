// Autoscaling of one deployment: its rule in words, and what its figures want at this moment.

import { call } from "./api.js";
import { age, make, soft } from "./dom.js";

const POLL_MS = 2000;

/** What the rule says; empty without one. */
export const ruleInWords = rule => (rule ? [
  ...rule.targets.map(({ value, ...figure }) => `${named(figure)} ${value}`),
  ...rule.schedules.map(({ replicas, start, end, timezone }) =>
    `at least ${replicas} from ${start} to ${end} (${timezone})`),
  ...(rule.scale_to_zero ? [`none after ${rule.cooldown_s} s without a call`] : []),
].map(line => make("div", {}, line)) : "");

export const lastInWords = last => (last
  ? [`to ${last.replicas}, `, age(last.at), make("div", { class: "reason" }, last.why)] : "");

export class Scaling {
  #list = make("ul", { class: "findings" });
  #why = soft("");
  #timer;

  /** Of the deployment `id` of a collection. Asks until it is closed, and only while it has a rule. */
  constructor(collection, id) {
    this.path = `deployments/${id}/scaling`;
    this.isRuled = () => {
      const rule = collection.records.get(id)?.autoscale;
      return Boolean(rule) && rule.targets.length + rule.schedules.length > 0;
    };
    this.element = make("section", { id: "scaling", "aria-labelledby": "scaled" },
      make("h3", { id: "scaled" }, "Autoscaling now"), this.#list, this.#why);
    this.element.hidden = true;
    this.#timer = setInterval(() => { if (!document.hidden) this.#look(); }, POLL_MS);
  }

  close() {
    clearInterval(this.#timer);
  }

  async #look() {
    this.element.hidden = !this.isRuled();
    if (this.element.hidden) return;
    try {
      const { figures, replicas, why } = await call(this.path);
      this.#list.replaceChildren(...figures.map(figure => make("li", {}, inWords(figure))));
      this.#why.textContent = `${replicas} wanted: ${why}`;
    } catch (error) {
      this.#why.textContent = error.message;
    }
  }
}

const named = ({ metric, percentile }) =>
  metric.replaceAll("_", " ") + (percentile ? ` p${percentile}` : "");

const inWords = figure => {
  const { value, target, replicas } = figure;
  const wants = replicas === null ? "" : `: wants ${replicas}`;
  return `${named(figure)} is ${value ?? "unknown"}, its target ${target}${wants}`;
};
