// Organisations with what they may have at most, and who may log in to them.

import { call } from "./api.js";
import { address, age, badge, bytes, code, make } from "./dom.js";
import { doing } from "./notices.js";
import { nameColumn } from "./pages.js";

export const organisations = {
  path: "organisations",
  title: "Organisations",
  empty: "No organisations.",
  name: organisation => organisation.name,
  acting: ({ status }) => [status],
  actions: ({ uuid, slug }, collection, { may }) => (may("organisation:write") ? [
    doing("Delete", async () => collection.put(await call(`organisations/${uuid}`, { method: "DELETE" })), {
      title: "Delete organisation?",
      text: `${slug} will be gone for ever, with its users and tokens. It must hold nothing any more.`,
    }),
  ] : []),
  columns: ({ may }) => [
    nameColumn("Organisation", "organisations", "uuid", ({ name }) => [name]),
    { title: "Slug", read: ({ slug }) => slug, show: code },
    ...quotas,
    ...(may("user:write") ? [{ title: "Users", read: ({ slug }) => slug, show: usersOf }] : []),
  ],
  facts: ({ may }) => [
    { title: "Slug", read: ({ slug }) => slug, show: code },
    { title: "ID", read: ({ uuid }) => uuid, show: code },
    ...quotas,
    ...(may("user:write") ? [{ title: "Users", read: ({ slug }) => slug, show: usersOf }] : []),
    { title: "Made", read: ({ created_at: at }) => at, show: age },
  ],
};

const most = (title, name, show) => ({
  title, read: each => each.quotas[name], show: value => (value === null ? "unlimited" : show(value)),
});

const quotas = [
  most("GPUs", "gpus", String),
  most("Containers", "containers", String),
  most("Archives", "archive_bytes", bytes),
];

const usersOf = slug => make("a", { href: address(["users"], { org: slug }) }, "show");

export const users = {
  path: "users",
  title: "Users",
  filters: ["org"],
  empty: "No users yet. Make one: modelyard users create.",
  name: user => user.name,
  acting: ({ active }) => [active],
  actions: ({ uuid, name, active }, collection) => {
    const set = async wanted => collection.put(
      await call(`users/${uuid}`, { method: "PATCH", body: { active: wanted } }));
    return [active ? doing("Disable", () => set(false), {
      title: "Disable user?",
      text: `${name} is out at once, with all sessions, tokens and keys.`,
    }) : doing("Enable", () => set(true))];
  },
  columns: () => [
    nameColumn("User", "users", "uuid", ({ name }) => [name]),
    ...who,
  ],
  facts: () => [
    ...who,
    { title: "Made", read: ({ created_at: at }) => at, show: age },
    { title: "ID", read: ({ uuid }) => uuid, show: code },
  ],
};

const who = [
  { title: "Organisation", read: ({ org }) => org, show: code },
  { title: "Role", read: ({ role }) => role },
  { title: "May log in", read: ({ active }) => active, show: active => (active ? "yes" : badge("error", "disabled")) },
];
