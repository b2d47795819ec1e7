// One field for all: what is called so, refers so, or has such an id.

import { call, newest } from "./api.js";
import { address, badge, find, link, make, soft } from "./dom.js";

const LOOKED_AT = 300; // newest records of each kind
const WAIT_MS = 250;
const AN_ID = /^[0-9a-f]{8}[0-9a-f-]*$/i;

/** path → permission, title, what names a record, and whether the server finds exact names in all of them. */
const KINDS = {
  containers: ["container:view", "Containers", ({ name, image_name: image, spec }) => [name, image, spec.image], true],
  deployments: ["deployment:view", "Deployments", ({ name, slug }) => [name, slug], true],
  models: ["image:view", "Models", ({ name, description }) => [name, description]],
  images: ["image:view", "Images", ({ name, reference, digest }) => [name, reference, digest], true],
  builds: ["image:view", "Builds", ({ name }) => [name]],
  uploads: ["image:view", "Uploads", ({ name, image }) => [name, image?.reference]],
  nodes: ["node:view", "Nodes", ({ name, address: at }) => [name, at], true],
  registries: ["registry:view", "Registries", ({ name, public_url: url }) => [name, url]],
  secrets: ["secret:view", "Secrets", ({ name, server }) => [name, server]],
  webhooks: ["webhook:view", "Webhooks", ({ name, url }) => [name, url]],
  tokens: ["token:write", "Tokens", ({ name }) => [name]],
  organisations: ["organisation:view", "Organisations", ({ name, slug }) => [name, slug]],
  users: ["user:write", "Users", ({ name }) => [name]],
};
const ELSEWHERE = { models: "../../api/models" };

const idOf = record => record.uuid ?? record.id ?? record.identifier;

/** `search?q=…` */
export function searchPage({ query, may }) {
  const wanted = (query.q ?? "").trim();
  const note = make("p", { class: "note", role: "status" }, wanted ? "Searching…" : "Enter a name, a reference or an id.");
  const results = make("div", { id: "results" });
  if (wanted) {
    const kinds = Object.entries(KINDS).filter(([, [permission]]) => may(permission));
    const places = kinds.map(() => make("div"));
    results.append(...places);
    Promise.all(kinds.map((kind, index) => found(kind, wanted).then(section => {
      if (section) places[index].append(section);
    }))).then(() => {
      note.textContent = results.textContent ? "" : `Nothing is called “${wanted}”.`;
    }, error => { note.textContent = error.message; });
  }
  return { title: wanted ? `Search: ${wanted}` : "Search", body: [note, results] };
}

async function found([path, [, title, named, isFindable]], wanted) {
  const at = ELSEWHERE[path] ?? path;
  const [{ items, more }, exact] = await Promise.all([
    newest(at, LOOKED_AT), isFindable ? exactly(path, wanted) : null,
  ]);
  const text = wanted.toLowerCase();
  const isMeant = record => [...named(record), idOf(record)].some(
    word => word && String(word).toLowerCase().includes(text));
  const hits = new Map(items.filter(isMeant).map(record => [idOf(record), record]));
  if (exact) hits.set(idOf(exact), exact);
  if (hits.size === 0) return null;
  const lines = [...hits.values()].map(record => {
    const [name, ...rest] = named(record);
    return make("li", {}, link([path, idOf(record)], make("strong", {}, name || idOf(record))), " ",
      record.status ? badge(String(record.status).toUpperCase()) : "", soft(rest.filter(Boolean)[0] ?? ""));
  });
  return make("section", { id: `found-${path}` }, make("h3", {}, title),
    make("ul", { class: "found" }, ...lines),
    more ? soft(`Of older ones than the newest ${LOOKED_AT}, only whole names and ids are found.`) : "");
}

/** What is called exactly so, or has an id that begins so, however old it is. */
async function exactly(path, called) {
  if (!AN_ID.test(called)) return (await newest(path, 1, { name: called })).items[0];
  try {
    return await call(`${path}/find`, { query: { called } });
  } catch (error) {
    if (error.status >= 400 && error.status < 500 && !error.isRefusal) return null;
    throw error;
  }
}

/** The field in the header: `/` goes there, whatever is typed is searched for. */
export function wireSearch() {
  const field = find("search");
  let timer;
  const go = () => {
    clearTimeout(timer);
    const isThere = location.hash.startsWith("#/search");
    const to = address(["search"], { q: field.value.trim() });
    // The way back leads to where the search began, not through every letter.
    if (isThere) location.replace(to);
    else if (field.value.trim()) location.hash = to;
  };
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(go, WAIT_MS);
  });
  find("search-form").addEventListener("submit", event => {
    event.preventDefault();
    go();
    document.querySelector("#results a")?.focus();
  });
  const tell = () => {
    const asked = location.hash.startsWith("#/search?") ? location.hash.split("?")[1] : "";
    if (document.activeElement !== field) field.value = new URLSearchParams(asked).get("q") ?? "";
  };
  addEventListener("hashchange", tell);
  tell();
  addEventListener("keydown", event => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, textarea, dialog, [contenteditable]")) return;
    if (find("search-form").hidden) return;
    event.preventDefault();
    field.focus();
    field.select();
  });
}
