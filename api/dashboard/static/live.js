// What is shown now, kept true: the feed says which records to read again.

import { Collection } from "./collection.js";

const POLL_MS = 5000;

const byMoment = name => (one, other) => Date.parse(other[name]) - Date.parse(one[name]);

/** By path. What makes no events (heartbeats, readiness, letters) is polled while somebody looks. */
const KINDS = {
  containers: { resource: "container" },
  deployments: { resource: "deployment", isPolled: true },
  images: { resource: "image" },
  // Their API has no pages that go by cursor, and its events are those of images.
  models: { at: "../../api/models", isPolled: true, key: "identifier", order: byMoment("updatedAt") },
  versions: { isPolled: true, key: "version" },
  uploads: { resource: "upload", isPolled: true, key: "id" },
  nodes: { resource: "node", isPolled: true },
  registries: { resource: "registry", isReadWhole: true, key: "id" },
  secrets: { resource: "secret", isReadWhole: true },
  tokens: { resource: "token", isReadWhole: true },
  // Events of those of other organisations are theirs.
  organisations: { resource: "organisation", isPolled: true },
  users: { resource: "user", isPolled: true },
  builds: { resource: "build" },
  webhooks: { resource: "webhook" },
  // Events tell of webhooks, not of what these send.
  deliveries: { isPolled: true },
  audit: { isPolled: true, key: "id", order: byMoment("time") },
  "dead-letters": {
    isPolled: true, key: "id", order: (one, other) => Number(other.id) - Number(one.id),
  },
};

export class Live {
  #open = new Set();
  #timer = setInterval(() => { if (!document.hidden) this.#reload(({ isPolled }) => isPolled); }, POLL_MS);

  /** A list (`query`, `size`) or one record (`id`), followed until it is closed. */
  open(path, options = {}) {
    const { key, order, at } = KINDS[path];
    const collection = new Collection(path, { key, order, ...options, at: options.at ?? at });
    const close = collection.close.bind(collection);
    collection.close = () => {
      this.#open.delete(collection);
      close();
    };
    this.#open.add(collection);
    collection.reload();
    return collection;
  }

  /** Something happened to the record `id` of this resource. */
  touch(resource, id) {
    for (const collection of this.#open) {
      const kind = KINDS[collection.path];
      if (kind.resource !== resource) continue;
      if (kind.isReadWhole) collection.reload();
      else collection.touch(id);
    }
    if (resource === "container") this.#reload(kind => kind === KINDS.nodes);
  }

  reload() {
    this.#reload(() => true);
  }

  close() {
    clearInterval(this.#timer);
    for (const collection of [...this.#open]) collection.close();
  }

  #reload(isMeant) {
    for (const collection of this.#open) if (isMeant(KINDS[collection.path])) collection.reload();
  }
}
