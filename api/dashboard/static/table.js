// A table that follows a list: rows and cells that did not change are left alone, so that focus,
// selection and opened details survive every update.

import { find, make } from "./dom.js";

/**
 * `columns`: `{ title, read, show }`. `read(record)` picks plain values; only when they change is
 * `show(values, record)` asked for the nodes or texts of the cell.
 */
export class Table {
  #rows = new Map();
  #frame = 0;

  constructor(collection, columns, { empty }) {
    Object.assign(this, { collection, columns, empty });
    const heads = columns.map(({ title, isQuiet }) =>
      make("th", { scope: "col", role: "columnheader" },
        isQuiet ? make("span", { class: "unseen" }, title) : title));
    this.body = make("tbody", { role: "rowgroup" });
    this.note = make("p", { class: "note" }, "Loading…");
    this.moreButton = make("button", { hidden: true, click: () => collection.showMore() },
      "Show more");
    this.elements = [
      make("table", { role: "table", "aria-labelledby": "heading" },
        make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...heads)), this.body),
      this.note, this.moreButton];
    collection.onChange = () => this.refresh();
  }

  /** Once per frame at most, and not while nobody looks. */
  refresh() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw(this.collection.list);
    });
  }

  #draw(records) {
    const { key, problem, isLoaded, more } = this.collection;
    const gone = new Set(this.#rows.keys());
    records.forEach((record, index) => {
      gone.delete(record[key]);
      const row = this.#row(record[key]);
      this.#fill(row, record);
      const there = this.body.children[index];
      if (there !== row.element) this.body.insertBefore(row.element, there ?? null);
    });
    for (const id of gone) this.#remove(id);
    this.note.textContent = problem ? problem.message
      : !isLoaded ? "Loading…" : records.length ? "" : this.empty;
    this.note.classList.toggle("problem", problem !== null);
    this.moreButton.hidden = !more;
  }

  #row(id) {
    if (!this.#rows.has(id)) {
      const cells = this.columns.map(({ title }, index) => index
        ? make("td", { role: "cell", "data-title": title })
        : make("th", { role: "rowheader", scope: "row", "data-title": title }));
      const element = make("tr", { role: "row", "data-id": id }, ...cells);
      this.#rows.set(id, { element, cells, shown: [] });
    }
    return this.#rows.get(id);
  }

  #fill(row, record) {
    row.element.dataset.status = record.status ?? "";
    this.columns.forEach((column, index) => {
      row.shown[index] = fill(row.cells[index], column, record, row.shown[index]);
    });
  }

  #remove(id) {
    const { element } = this.#rows.get(id);
    const hadFocus = element.contains(document.activeElement);
    element.remove();
    this.#rows.delete(id);
    if (hadFocus) find("heading").focus();
  }
}

/** The facts of one record, one below the other; what it does not have has no line. */
export class Facts {
  constructor(facts) {
    const lines = facts.map(fact => {
      const cell = make("td");
      return { fact, cell, row: make("tr", {}, make("th", { scope: "row" }, fact.title), cell) };
    });
    this.lines = lines;
    this.element = make("table", { class: "facts", "aria-labelledby": "heading" },
      make("tbody", {}, ...lines.map(({ row }) => row)));
  }

  draw(record) {
    for (const line of this.lines) {
      line.row.hidden = isNothing(line.fact.read(record));
      if (!line.row.hidden) line.shown = fill(line.cell, line.fact, record, line.shown);
    }
  }
}

const isNothing = values => values === null || values === undefined || values === ""
  || (typeof values === "object" && Object.keys(values).length === 0);

/** Draws the cell anew when its values are others than `shown`; returns what is shown now. */
export function fill(cell, { read, show = value => String(value) }, record, shown) {
  const values = read(record);
  const seen = JSON.stringify(values) ?? "";
  if (seen !== shown) keepFocus(cell, () => cell.replaceChildren(...[show(values, record)].flat()));
  return seen;
}

/** The button of the same name has the focus again after `change`, or the heading. */
function keepFocus(cell, change) {
  const { activeElement } = document;
  const name = cell.contains(activeElement) ? activeElement.textContent : null;
  change();
  if (name === null) return;
  const same = [...cell.querySelectorAll("button, a, summary")].find(
    one => one.textContent === name && !one.disabled);
  (same ?? find("heading")).focus();
}
