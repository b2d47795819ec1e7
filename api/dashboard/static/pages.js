// What the pages of all resources have in common: a list, and one record with what happens to it.

import { address, link, make, soft } from "./dom.js";
import { Facts, Table, fill } from "./table.js";
import { Timeline } from "./timeline.js";

/** The first column of a list: the name, which leads to the record's page. */
export const nameColumn = (title, path, key, read, more = () => []) => ({
  title,
  read: record => [record[key], ...read(record)],
  show: ([id, name, ...rest]) => [link([path, id], make("strong", {}, name)), ...more(rest)],
});

export const reasonText = reason => (reason ? make("div", { class: "reason" }, reason) : "");

export const listPage = resource => context => {
  const { path, title, columns, actions, empty } = resource;
  const query = Object.fromEntries((resource.filters ?? []).map(name => [name, context.query[name]]));
  const collection = context.own(context.live.open(path, { query }));
  const shown = columns(context);
  if (actions)
    shown.push({
      title: "Actions", isQuiet: true, read: resource.acting,
      show: (_, record) => actions(record, collection, context),
    });
  const table = new Table(collection, shown, { empty: Object.values(query).some(Boolean) ? "None." : empty });
  context.onNodes?.(() => table.refresh());
  return {
    title,
    bar: [...narrowed(resource, query, context), ...statuses(resource, query),
      ...(resource.making?.(context, collection) ?? [])],
    body: [make("section", { id: path, "aria-labelledby": "heading" }, ...table.elements)],
  };
};

export const recordPage = resource => context => {
  const { path, title, facts, actions, name } = resource;
  const { id } = context;
  const collection = context.own(context.live.open(path, { id, at: resource.at }));
  const note = make("p", { class: "note" }, "Loading…");
  const table = new Facts(facts(context));
  const buttons = make("span", { class: "actions" });
  const section = make("section", { id: "record", "aria-labelledby": "heading" }, note, table.element);
  table.element.hidden = true;
  let acted;
  collection.onChange = () => {
    const record = collection.records.get(id);
    const isThere = record !== undefined;
    note.textContent = collection.problem?.message ?? (isThere ? "" : `There is no such record: ${id}.`);
    table.element.hidden = buttons.hidden = !isThere;
    if (!isThere) return;
    context.rename(name(record));
    section.dataset.status = record.status ?? "";
    table.draw(record);
    if (actions)
      acted = fill(buttons, {
        read: resource.acting, show: (_, now) => actions(now, collection, context),
      }, record, acted);
  };
  return {
    title,
    bar: [buttons],
    body: [
      make("p", { class: "above" }, resource.above ?? link([path], `All ${title.toLowerCase()}`)), section,
      ...(resource.below?.(context, collection) ?? []), ...happened(context, resource),
    ],
  };
};

/** `timeline`: what paths of timelines call the resource, where it has such. */
function happened({ own, events, may, id }, { timeline }) {
  if (!timeline || !may("event:view")) return [];
  return [own(new Timeline(timeline, id, events)).element];
}

function statuses({ path, statuses: known = [] }, query) {
  if (known.length === 0) return [];
  const options = ["", ...known].map(status =>
    make("option", { value: status, selected: status === (query.status ?? "") }, status || "all"));
  const select = make("select", { id: "filter" }, ...options);
  select.addEventListener("change", () => {
    location.hash = address([path], { ...query, status: select.value });
  });
  return [make("label", { class: "filter" }, "Show ", select)];
}

function narrowed({ path }, query, context) {
  const asked = Object.entries(query).filter(([name, value]) => value && name !== "status");
  if (asked.length === 0) return [];
  const which = asked.map(([name, value]) =>
    (name === "node" ? `on node ${context.node(value)?.name ?? value}` : `of ${name} ${value}`));
  return [soft(`${which.join(", ")} `, "span"), link([path], "Show all")];
}
