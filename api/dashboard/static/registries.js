// The directory of registries: where each is, and how it was found the last time.

import { call } from "./api.js";
import { age, badge, clock, code, make, soft } from "./dom.js";
import { nameColumn } from "./pages.js";

export const registries = {
  path: "registries",
  timeline: "registries",
  title: "Registries",
  empty: "No registries yet. Enter one: modelyard registries add.",
  name: registry => registry.name || registry.id,
  columns: () => [
    nameColumn("Registry", "registries", "id", ({ name, id, public_url: url }) => [name || id, url],
      ([url]) => [soft(url)]),
    { title: "Health", read: ({ health }) => health, show: showHealth },
    { title: "Tags", read: ({ tags }) => tags, show: tags => tags.join(", ") },
    { title: "Looked at", read: ({ health }) => health?.checked_at ?? null, show: at => (at ? age(at) : "") },
  ],
  facts: () => [
    { title: "Health", read: ({ health }) => health, show: showHealth },
    { title: "URL", read: ({ public_url: url }) => url, show: code },
    { title: "Image prefix", read: ({ image_prefix: prefix }) => prefix, show: code },
    { title: "Secret", read: ({ secret }) => secret, show: code },
    { title: "Tags", read: ({ tags }) => tags, show: tags => tags.join(", ") },
    { title: "Changed", read: ({ changed_at: at }) => at, show: age },
    { title: "ID", read: ({ id }) => id, show: code },
  ],
  below: ({ id }) => {
    const list = make("ol", { class: "events", "aria-labelledby": "checks" });
    showChecks(id, list);
    return [make("section", {}, make("h3", { id: "checks" }, "Checks"), list)];
  },
};

async function showChecks(id, list) {
  try {
    const { items } = await call(`registries/${encodeURIComponent(id)}/checks`);
    list.replaceChildren(...items.map(check =>
      make("li", {}, clock(check.checked_at), " ", ...[showHealth(check)].flat())));
  } catch (error) {
    list.replaceChildren(make("li", { class: "remark" }, error.message));
  }
}

function showHealth(health) {
  if (health === null) return soft("not looked at yet", "span");
  const { reachable, oci, credentials_ok: isLoggedIn, reason, latency_ms: latency } = health;
  const words = [
    isLoggedIn === false ? "refuses the credentials" : "",
    reason ?? "",
    latency === null ? "" : `${Math.round(latency)} ms`,
  ];
  return [
    badge(!reachable ? "error" : oci && isLoggedIn !== false ? "READY" : "warning",
      !reachable ? "unreachable" : oci ? "answers" : "no registry"),
    ` ${words.filter(Boolean).join(" · ")}`,
  ];
}
