// Credentials of registries, and tokens: what there is, never a value.

import { age, badge, code } from "./dom.js";
import { nameColumn } from "./pages.js";

export const secrets = {
  path: "secrets",
  timeline: "secrets",
  title: "Secrets",
  empty: "No secrets yet. Enter one: modelyard secrets add.",
  name: secret => secret.name,
  columns: () => [
    nameColumn("Secret", "secrets", "uuid", ({ name, uuid }) => [name || uuid]),
    { title: "Kind", read: ({ secret_type: kind }) => kind },
    { title: "Server", read: ({ server }) => server, show: code },
    { title: "Login", read: ({ login }) => login, show: showLogin },
    { title: "Used by", read: ({ reference_count: count }) => count, show: String },
  ],
  facts: () => [
    { title: "Login", read: ({ login }) => login, show: showLogin },
    { title: "Kind", read: ({ secret_type: kind }) => kind },
    { title: "Server", read: ({ server }) => server, show: code },
    { title: "Used by", read: ({ reference_count: count }) => count, show: count => `${count} images and registries` },
    { title: "Made", read: ({ created_at: at }) => at, show: age },
    { title: "ID", read: ({ uuid }) => uuid, show: code },
  ],
};

export const tokens = {
  path: "tokens",
  timeline: "tokens",
  title: "Tokens",
  empty: "No tokens. Make one: modelyard token create.",
  name: token => token.name,
  columns: () => [
    nameColumn("Token", "tokens", "uuid", ({ name, uuid }) => [name || uuid]),
    { title: "Role", read: ({ role }) => role },
    { title: "Kind", read: ({ kind }) => kind },
    { title: "Ends", read: ending, show: showEnding },
  ],
  facts: () => [
    { title: "Role", read: ({ role }) => role },
    { title: "Kind", read: ({ kind }) => kind },
    { title: "Ends", read: ending, show: showEnding },
    { title: "Made by", read: ({ created_by: who }) => who, show: who => (who ? code(who) : "") },
    { title: "Made", read: ({ created_at: at }) => at, show: age },
    { title: "ID", read: ({ uuid }) => uuid, show: code },
  ],
};

const ending = ({ revoked_at: revoked, expires_at: at }) => [revoked, at];

const showEnding = ([revoked, at]) =>
  (revoked ? [badge("error", "revoked"), " ", age(revoked)] : at ? new Date(at).toLocaleString() : "never");

const showLogin = login => (login === null ? "not tried" : login.message);
