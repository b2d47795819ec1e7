// Containers: where each runs, what it holds, why it is as it is.

import { call } from "./api.js";
import { age, badge, bytes, code, link, make, pairs, plural, progress, soft } from "./dom.js";
import { Logs } from "./logs.js";
import { doing } from "./notices.js";
import { gpusInWords } from "./nodes.js";
import { nameColumn, reasonText } from "./pages.js";
import { Usage } from "./usage.js";

const MAIN = { id: "run", class: "primary" };
const OVER = new Set(["STOPPED", "FAILED", "DELETED"]);
const UP = new Set(["RUNNING", "UNHEALTHY", "RESTARTING"]);
const isOver = ({ status }) => OVER.has(status);

export const containers = {
  path: "containers",
  title: "Containers",
  filters: ["status", "node", "image"],
  statuses: ["REQUESTED", "PLACED", "PULLING", "RUNNING", "UNHEALTHY", "RESTARTING", "STOPPED",
    "FAILED", "LOST"],
  empty: "No containers yet. Run one of the images that are READY.",
  timeline: "containers",
  name: container => container.name,
  acting: ({ status, desired, node }) => [status, desired, node === null],
  actions,
  making: ({ may, forms }, collection) => (may("container:run")
    ? [doing("Run a container", () => forms.run(null, collection), null, MAIN)] : []),
  columns: context => [
    nameColumn("Container", "containers", "uuid", what, showWhat),
    { title: "Status", read: state, show: showState },
    {
      title: "Node", read: one => [one.node, one.node_name, isOver(one) ? [] : one.ports],
      show: ([node, name, ports]) => [showNode([node, name]), ...ports.map(showPort)],
    },
    { title: "GPUs", read: container => gpus(container, context), show: showGpus },
    { title: "Age", read: ({ created_at: at }) => at, show: age },
  ],
  facts: context => [
    { title: "Status", read: state, show: showState },
    { title: "Reason", read: ({ reason }) => reason, show: reasonText },
    { title: "Refused by", read: ({ refusals }) => refusals, show: showRefusals },
    { title: "Priority", read: ({ spec }) => spec.priority || null },
    { title: "Place in the queue", read: ({ queue_position: position }) => position },
    { title: "Image", read: ({ image, image_name: name }) => [image, name],
      show: ([uuid, name]) => link(["images", uuid], name || uuid) },
    { title: "Pulled as", read: ({ pull }) => pull, show: code },
    { title: "Node", read: ({ node, node_name: name }) => (node ? [node, name] : null), show: showNode },
    { title: "Ports", read: one => (isOver(one) ? [] : one.ports), show: ports => ports.map(showPort) },
    { title: "GPUs", read: container => gpus(container, context), show: showGpus },
    { title: "Memory", read: ({ spec }) => spec.resources.memory_bytes || null, show: bytes },
    { title: "CPUs", read: ({ spec }) => spec.resources.cpus || null },
    { title: "Volumes", read: ({ spec }) => spec.volumes,
      show: volumes => volumes.map(showVolume) },
    { title: "Assets", read: ({ spec }) => spec.assets.map(asset => asset.env_key),
      show: keys => keys.map(key => make("div", {}, make("code", {}, key))) },
    { title: "Command", read: ({ spec }) => spec.command, show: words => code(words.join(" ")) },
    { title: "Environment", read: ({ spec }) => spec.env, show: pairs },
    { title: "Labels", read: ({ spec }) => spec.labels, show: pairs },
    { title: "Restart", read: ({ spec }) => spec.restart },
    { title: "Started", read: ({ started_at: at }) => at, show: age },
    { title: "Created", read: ({ created_at: at }) => at, show: age },
    { title: "By", read: ({ created_by: by }) => by },
    { title: "ID", read: ({ uuid }) => uuid, show: code },
  ],
  below({ id, own }, collection) {
    const usage = new Usage(collection, id);
    own(usage);
    return [usage.element];
  },
};

const what = container =>
  [container.name, container.image_name || container.spec.image, container.reason, container.refusals];

const showWhat = ([image, reason, refusals]) => [
  soft(image),
  reasonText(reason),
  Object.keys(refusals).length ? make("details", {},
    make("summary", {}, `Refused by ${refusers(Object.keys(refusals))}`),
    showRefusals(refusals)) : "",
];

// Where there are many nodes, they are counted by kind of reason.
const refusers = names =>
  (names.every(name => name.includes(" nodes (")) ? "all nodes" : plural(names.length, "node"));

const showRefusals = refusals => make("ul", { class: "findings" },
  ...Object.entries(refusals).map(([node, reasons]) =>
    make("li", {}, make("strong", {}, node), `: ${reasons.join("; ")}`)));

const state = container => [
  container.status, container.desired, container.progress.percentage,
  container.restarts, container.exit_code,
];

function showState([status, desired, percentage, restarts, exitCode]) {
  const shown = [badge(status)];
  if (!OVER.has(status) && desired !== "RUNNING")
    shown.push(soft(desired === "DELETED" ? "being deleted…" : "being stopped…"));
  if (status === "PULLING") shown.push(progress("Pull", percentage));
  if (restarts > 0) shown.push(soft(plural(restarts, "restart")));
  if (exitCode !== null) shown.push(soft(`exit code ${exitCode}`));
  return shown;
}

const showNode = ([node, name]) =>
  (node ? link(["nodes", node], name || node) : make("span", { class: "soft" }, "none"));

function showPort({ address, host, internal, protocol }) {
  const text = `${address}:${host} → ${internal}${protocol === "tcp" ? "" : `/${protocol}`}`;
  const where = `http://${address.includes(":") ? `[${address}]` : address}:${host}/`;
  if (protocol !== "tcp" || !URL.canParse(where)) return make("div", {}, make("code", {}, text));
  const attributes = { href: where, target: "_blank", rel: "noopener noreferrer" };
  return make("div", {}, make("a", attributes, text));
}

const showVolume = ({ path, read_only: isReadOnly }) =>
  make("div", {}, make("code", {}, path), isReadOnly ? " read-only" : "");

// What has ended holds nothing any more: its record only remembers.
const gpus = (container, { node }) => [
  isOver(container) ? [] : container.gpus,
  gpusInWords(node(container.node), container.gpus),
  isOver(container) ? 0 : container.spec.gpus ?? 0,
];

const showGpus = ([uuids, words, wanted]) => {
  if (uuids.length) return [make("span", { title: uuids.join("\n") }, words)];
  return [make("span", { class: "soft" }, wanted ? `${wanted} wanted` : "none")];
};

function actions(container, collection, { may, id }) {
  const { uuid, name, desired, node, status } = container;
  const path = `containers/${uuid}`;
  const put = async (way, method = "POST") => collection.put(await call(`${path}${way}`, { method }));
  const stop = () => doing("Stop", () => put("/stop"), {
    title: "Stop container?",
    text: `${name} will be stopped and not restarted. Its logs stay, its GPUs become free.`,
  });
  const remove = () => doing("Delete", () => put("", "DELETE"), {
    title: "Delete container?",
    text: `${name} will be stopped and removed, together with its logs.`,
  });
  const isEnding = desired === "DELETED" || status === "DELETED";
  return [
    node && may("log:view") ? link(["containers", uuid, "logs"], "Logs") : "",
    isOver(container) && !isEnding && may("container:run") ? doing("Start", () => put("/start")) : "",
    id && UP.has(status) && !isEnding && may("container:run") ? doing("Restart", () => put("/restart")) : "",
    !isOver(container) && desired === "RUNNING" && may("container:stop") ? stop() : "",
    !isEnding && may("container:stop") ? remove() : "",
  ];
}

/** What a container writes, on a page of its own. */
export function logsPage({ live, own, id, rename }) {
  const collection = own(live.open("containers", { id }));
  const logs = own(new Logs(id));
  collection.onChange = () => {
    const container = collection.records.get(id);
    if (container) rename(`Logs of ${container.name}`);
  };
  return {
    title: "Logs",
    body: [make("p", { class: "above" }, link(["containers", id], "The container")), logs.element],
  };
}
