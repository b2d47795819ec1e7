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

  constructor(section, collection, columns, { empty }) {
    Object.assign(this, { section, collection, columns, empty });
    const heads = columns.map(({ title, isQuiet }) =>
      make("th", { scope: "col", role: "columnheader" },
        isQuiet ? make("span", { class: "unseen" }, title) : title));
    this.body = make("tbody", { role: "rowgroup" });
    this.note = make("p", { class: "note" }, "Loading…");
    this.moreButton = make("button", { hidden: true, click: () => collection.showMore() },
      "Show more");
    const heading = section.querySelector("h2");
    section.append(
      make("table", { role: "table", "aria-labelledby": heading.id },
        make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...heads)), this.body),
      this.note, this.moreButton);
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
    this.onDraw?.(this.collection);
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
    this.columns.forEach(({ read, show }, index) => {
      const values = read(record);
      const seen = JSON.stringify(values);
      if (seen === row.shown[index]) return;
      row.shown[index] = seen;
      keepFocus(row.cells[index], () =>
        row.cells[index].replaceChildren(...[show(values, record)].flat()));
    });
  }

  #remove(id) {
    const { element } = this.#rows.get(id);
    const hadFocus = element.contains(document.activeElement);
    element.remove();
    this.#rows.delete(id);
    if (hadFocus) this.section.querySelector("h2").focus();
  }
}

/** The button of the same name has the focus again after `change`, or the section's heading. */
function keepFocus(cell, change) {
  const { activeElement } = document;
  const name = cell.contains(activeElement) ? activeElement.textContent : null;
  change();
  if (name === null) return;
  const same = [...cell.querySelectorAll("button, a, summary")].find(
    one => one.textContent === name && !one.disabled);
  (same ?? cell.closest("section").querySelector("h2") ?? find("main")).focus();
}
