// Records as the server last told them. Events only say when to look again.

import { call, newest } from "./api.js";

const GATHER_MS = 150; // one look answers all events of this long
const RETRY_MS = 3000;
const MANY = 10; // more records than this are read as a list

const newestFirst = (one, other) =>
  Date.parse(other.created_at) - Date.parse(one.created_at) || (other.uuid < one.uuid ? -1 : 1);

/** A list, narrowed by `query`; or, with `id`, that one record in whatever state it is. */
export class Collection {
  records = new Map();
  more = false;
  problem = null;
  isLoaded = false;
  onChange = () => {};
  #limit;
  #wantsAll = false;
  #wanted = new Set();
  #isLooking = false;
  #isClosed = false;

  /** It is read `at` this address, relative to that of the API, if not at `path`. */
  constructor(path, { at = path, key = "uuid", order = newestFirst, query = {}, id = null, size = 50 } = {}) {
    Object.assign(this, { path, at, key, order, query, id, size });
    this.#limit = size;
  }

  get list() {
    return [...this.records.values()].sort(this.order);
  }

  /** Everything anew, soon. */
  reload() {
    this.#wantsAll = true;
    this.#begin();
  }

  /** One record anew, soon; it may be a new one, or gone. */
  touch(id) {
    if (this.id !== null) return this.id === id ? this.reload() : undefined;
    this.#wanted.add(id);
    this.#begin();
  }

  /** A record that the server just answered with. */
  put(record) {
    this.#keep(record);
    this.onChange();
  }

  showMore() {
    this.#limit += this.size;
    this.reload();
  }

  close() {
    this.#isClosed = true;
  }

  #begin() {
    if (!this.#isLooking) this.#look();
  }

  async #look() {
    this.#isLooking = true;
    while (!this.#isClosed && (this.#wantsAll || this.#wanted.size)) {
      if (this.isLoaded) await pause(GATHER_MS);
      const all = this.#wantsAll || this.#wanted.size > MANY;
      const ids = [...this.#wanted];
      this.#wantsAll = false;
      this.#wanted.clear();
      try {
        if (all) await this.#readAll();
        else await Promise.all(ids.map(id => this.#readOne(id)));
        this.problem = null;
      } catch (error) {
        this.problem = error;
        this.#wantsAll = !error.isRefusal;
      }
      if (!this.#isClosed) this.onChange();
      if (this.#wantsAll && this.problem) await pause(RETRY_MS);
    }
    this.#isLooking = false;
  }

  async #readAll() {
    if (this.id !== null) {
      await this.#readOne(this.id);
      this.isLoaded = true;
      return;
    }
    const { items, more } = await newest(this.at, this.#limit, this.query);
    const before = this.records;
    this.records = new Map();
    this.more = more;
    this.isLoaded = true;
    for (const item of items) this.#keep(newer(before.get(item[this.key]), item));
  }

  async #readOne(id) {
    try {
      this.#keep(await call(`${this.at}/${encodeURIComponent(id)}`));
    } catch (error) {
      if (error.status !== 404) throw error;
      this.records.delete(id);
    }
  }

  #keep(record) {
    const id = record[this.key];
    if (this.#isWanted(record)) this.records.set(id, newer(this.records.get(id), record));
    else this.records.delete(id);
    if (this.records.size > this.#limit) {
      this.records = new Map(this.list.slice(0, this.#limit).map(one => [one[this.key], one]));
      this.more = true;
    }
  }

  #isWanted(record) {
    if (this.id !== null) return true;
    if (record.status === "DELETED" || record.superseded_by) return false;
    return Object.entries(this.query).every(([name, value]) => !value || record[name] === value);
  }
}

// Some changes, heartbeats for one, make no new revision: then what came last counts.
const newer = (known, told) => (known && known.revision > told.revision ? known : told);

const pause = ms => new Promise(resolve => setTimeout(resolve, ms));
