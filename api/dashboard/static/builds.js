// Builds: images made of a Dockerfile, and what that writes.

import { call, open } from "./api.js";
import { age, badge, bytes, code, link, make, pairs, soft } from "./dom.js";
import { doing } from "./notices.js";
import { nameColumn, reasonText } from "./pages.js";
import { frames } from "./sse.js";

const KEPT = 5000; // pieces of output
const OVER = new Set(["DONE", "FAILED"]);

export const builds = {
  path: "builds",
  timeline: "builds",
  title: "Builds",
  filters: ["status"],
  statuses: ["QUEUED", "BUILDING", "PUSHING", "DONE", "FAILED"],
  empty: "No builds yet. Make an image of a Dockerfile: modelyard images build.",
  name: build => build.name,
  acting: ({ status }) => status,
  actions,
  columns: () => [
    nameColumn("Build", "builds", "uuid", build => [build.name, from(build), build.reason],
      ([source, reason]) => [soft(source), reasonText(reason)]),
    { title: "Status", read: ({ status }) => status, show: status => badge(status) },
    { title: "Node", read: place, show: showPlace },
    { title: "Age", read: ({ created_at: at }) => at, show: age },
  ],
  facts: () => [
    { title: "Status", read: ({ status }) => status, show: status => badge(status) },
    { title: "Reason", read: ({ reason }) => reason, show: reasonText },
    { title: "Code", read: ({ code: word }) => word, show: code },
    { title: "Image", read: ({ image }) => image, show: uuid => link(["images", uuid], uuid) },
    { title: "From", read: from, show: code },
    { title: "Dockerfile", read: ({ spec }) => spec.dockerfile, show: code },
    { title: "Stage", read: ({ spec }) => spec.target, show: code },
    { title: "Labels", read: ({ spec }) => spec.labels ?? {}, show: pairs },
    { title: "Node", read: place, show: showPlace },
    { title: "Output", read: ({ output_bytes: size }) => size || null, show: bytes },
    { title: "Created", read: ({ created_at: at }) => at, show: age },
    { title: "By", read: ({ created_by: by }) => by },
    { title: "ID", read: ({ uuid }) => uuid, show: code },
  ],
  below: ({ id, own, may }) => (may("log:view") ? [own(new Output(id)).element] : []),
};

const from = ({ spec: { git_url: url, git_ref: ref, context_path: path } }) =>
  (url ? `${url}${ref ? ` at ${ref}` : ""}` : path ?? "a context that was sent");

const place = ({ node, node_name: name }) => [node, name];

const showPlace = ([node, name]) => (node ? link(["nodes", node], name || node) : soft("none", "span"));

function actions({ uuid, name, status }, collection, { may }) {
  if (OVER.has(status) || !may("image:build")) return [];
  return [doing("Cancel", async () => collection.put(await call(`builds/${uuid}`, { method: "DELETE" })), {
    title: "Cancel build?", text: `${name} will not be built. It counts as failed.`,
  })];
}

/** What a build writes, from its beginning until it is over. */
class Output {
  #text = make("pre", { class: "output", tabindex: 0, "aria-labelledby": "output-heading" });
  #state = make("span", { class: "soft", role: "status" });
  #reading = new AbortController();

  constructor(build) {
    this.element = make("section", { id: "output", "aria-labelledby": "output-heading" },
      make("h3", { id: "output-heading" }, "Output"), this.#state, this.#text);
    // Browsers keep pages that were left, for the way back, with all that is open in them.
    this.hide = () => this.#reading.abort();
    addEventListener("pagehide", this.hide);
    this.#read(`builds/${encodeURIComponent(build)}/output`);
  }

  close() {
    removeEventListener("pagehide", this.hide);
    this.hide();
  }

  async #read(path) {
    const { signal } = this.#reading;
    try {
      const answer = await open(path, { headers: { Accept: "text/event-stream" }, signal });
      for await (const { event, data } of frames(answer)) {
        if (event === "output") this.#append(JSON.parse(data).text);
        else if (event === "bye") this.#state.textContent = "The server stopped: open this page again.";
      }
    } catch (error) {
      if (!signal.aborted) this.#state.textContent = error.message;
    }
  }

  #append(text) {
    const box = this.#text;
    const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    box.append(make("span", {}, text));
    while (box.childElementCount > KEPT) box.firstElementChild.remove();
    if (isAtEnd) box.scrollTop = box.scrollHeight;
  }
}
