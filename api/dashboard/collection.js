// The records of one kind as the server last told them. Events only say when to look again.

import { call, newest } from "./api.js";

const GATHER_MS = 150; // one look answers all events of this long
const RETRY_MS = 3000;
const MANY = 10; // more records than this are read as a list
const PAGE = 50;

const newestFirst = (one, other) =>
  Date.parse(other.created_at) - Date.parse(one.created_at) || (other.uuid < one.uuid ? -1 : 1);

export class Collection {
  records = new Map();
  more = false;
  problem = null;
  isLoaded = false;
  status = ""; // only records of this status, when set
  onChange = () => {};
  #limit = PAGE;
  #wantsAll = false;
  #wanted = new Set();
  #isLooking = false;
  #isClosed = false;

  constructor(path, { key = "uuid", order = newestFirst } = {}) {
    Object.assign(this, { path, key, order });
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
    this.#wanted.add(id);
    this.#begin();
  }

  /** A record that the server just answered with. */
  put(record) {
    this.#keep(record);
    this.onChange();
  }

  showMore() {
    this.#limit += PAGE;
    this.reload();
  }

  only(status) {
    this.status = status;
    this.records.clear();
    this.#limit = PAGE;
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
      await pause(GATHER_MS);
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
      this.onChange();
      if (this.#wantsAll && this.problem) await pause(RETRY_MS);
    }
    this.#isLooking = false;
  }

  async #readAll() {
    const { status } = this;
    const { items, more } = await newest(this.path, this.#limit, { status });
    if (status !== this.status) return; // asked anew meanwhile
    const before = this.records;
    this.records = new Map();
    this.more = more;
    this.isLoaded = true;
    for (const item of items) this.#keep(newer(before.get(item[this.key]), item));
  }

  async #readOne(id) {
    try {
      this.#keep(await call(`${this.path}/${encodeURIComponent(id)}`));
    } catch (error) {
      if (error.status !== 404) throw error;
      this.records.delete(id);
    }
  }

  #keep(record) {
    const id = record[this.key];
    const isWanted = record.status !== "DELETED" && (!this.status || record.status === this.status);
    if (isWanted) this.records.set(id, newer(this.records.get(id), record));
    else this.records.delete(id);
    if (this.records.size > this.#limit) {
      this.records = new Map(this.list.slice(0, this.#limit).map(one => [one[this.key], one]));
      this.more = true;
    }
  }
}

// Some changes, heartbeats for one, make no new revision: then what came last counts.
const newer = (known, told) => (known && known.revision > told.revision ? known : told);

const pause = ms => new Promise(resolve => setTimeout(resolve, ms));
