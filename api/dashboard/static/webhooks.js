// Webhooks: who is told of what, and what came of each telling.

import { call } from "./api.js";
import { age, badge, code, make, plural, soft } from "./dom.js";
import { doing, notify } from "./notices.js";
import { nameColumn, reasonText } from "./pages.js";
import { Table } from "./table.js";

export const webhooks = {
  path: "webhooks",
  timeline: "webhooks",
  title: "Webhooks",
  empty: "No webhooks yet. Make one: modelyard webhooks create.",
  name: webhook => webhook.name,
  acting: ({ status }) => status,
  actions,
  columns: () => [
    nameColumn("Webhook", "webhooks", "uuid", ({ name, url, reason }) => [name, url, reason],
      ([url, reason]) => [soft(url), reasonText(reason)]),
    { title: "Status", read: ({ status }) => status, show: status => badge(status) },
    { title: "Told of", read: told, show: lines => lines.map(line => make("div", {}, line)) },
    { title: "Age", read: ({ created_at: at }) => at, show: age },
  ],
  facts: () => [
    { title: "Status", read: ({ status }) => status, show: status => badge(status) },
    { title: "Reason", read: ({ reason }) => reason, show: reasonText },
    { title: "URL", read: ({ url }) => url, show: code },
    { title: "Told of", read: told, show: lines => lines.map(line => make("div", {}, line)) },
    { title: "Created", read: ({ created_at: at }) => at, show: age },
    { title: "By", read: ({ created_by: by }) => by },
    { title: "ID", read: ({ uuid }) => uuid, show: code },
  ],
  below({ id, own, live, may }) {
    const at = `webhooks/${encodeURIComponent(id)}/deliveries`;
    const collection = own(live.open("deliveries", { at }));
    const columns = [
      { title: "Event", read: ({ kind, about }) => [kind, about],
        show: ([kind, about]) => [make("strong", {}, kind), soft(about)] },
      { title: "Status", read: ({ status, next_at: next }) => [status, next], show: showState },
      { title: "Attempts", read: ({ tries, attempts }) => ({ tries, attempts }), show: showAttempts },
      { title: "Age", read: ({ created_at: made }) => made, show: age },
    ];
    if (may("webhook:write"))
      columns.push({ title: "Actions", isQuiet: true, read: ({ status }) => status,
        show: (status, { uuid }) => (status === "PENDING" ? "" : sendAgain(`${at}/${uuid}/send`, collection)) });
    const table = new Table(collection, columns, { empty: "Nothing was sent yet." });
    return [make("section", { id: "deliveries", "aria-labelledby": "deliveries-heading" },
      make("h3", { id: "deliveries-heading" }, "Deliveries"), ...table.elements)];
  },
};

const told = ({ resources, kinds }) => [
  resources.length ? resources.join(", ") : "every resource",
  kinds.length ? kinds.join(", ") : "every kind of event",
];

const showState = ([status, next]) =>
  [badge(status), status === "PENDING" && next ? soft(`due ${new Date(next).toLocaleString()}`) : ""];

function showAttempts({ tries, attempts }) {
  if (attempts.length === 0) return [soft("none", "span")];
  const list = make("ul", { class: "findings" }, ...attempts.map(({ at, status, error, milliseconds }) =>
    make("li", {}, age(at), ` ${[status, error, `${milliseconds} ms`].filter(Boolean).join(" · ")}`)));
  return [make("details", {}, make("summary", {}, plural(tries, "attempt")), list)];
}

const sendAgain = (path, collection) => doing("Send again", async () => {
  collection.put(await call(path, { method: "POST" }));
});

function actions({ uuid, name, status }, collection, { may, id }) {
  if (!may("webhook:write") || status === "DELETED") return [];
  const path = `webhooks/${uuid}`;
  const set = async active => collection.put(await call(path, { method: "PATCH", body: { active } }));
  const test = async () => {
    await call(`${path}/test`, { method: "POST" });
    notify(`A test is on its way to ${name}.`);
  };
  return [
    id && status === "ACTIVE" ? doing("Send a test", test) : "",
    status === "ACTIVE" ? doing("Disable", () => set(false), {
      title: "Disable webhook?", text: `${name} will be told nothing of what happens meanwhile, nor afterwards.`,
    }) : doing("Enable", () => set(true)),
    doing("Delete", async () => collection.put(await call(path, { method: "DELETE" })), {
      title: "Delete webhook?", text: `${name} will be told nothing more; what waits to be sent is not sent.`,
    }),
  ];
}
