// Containers: where each runs, what it holds, why it is as it is.

import { call } from "./api.js";
import { age, badge, id, make, plural, progress, soft } from "./dom.js";
import { agreed, carryOut } from "./notices.js";
import { Table } from "./table.js";

const OVER = new Set(["STOPPED", "FAILED", "DELETED"]);

/** `names`: `image(container)`, `node(uuid)` and `gpus(node, uuids)` in words. */
export function containerTable(section, containers, { names, onLogs }) {
  const asks = { containers, onLogs };
  return new Table(section, containers, [
    { title: "Container", read: container => what(container, names), show: showWhat },
    { title: "Status", read: state, show: showState },
    { title: "Node", read: container => place(container, names), show: showPlace },
    { title: "GPUs", read: container => gpus(container, names), show: showGpus },
    { title: "Age", read: container => container.created_at, show: age },
    {
      title: "Actions", isQuiet: true,
      read: ({ status, desired, node }) => [status, desired, node === null],
      show: (_, container) => actions(container, asks),
    },
  ], { empty: "No containers yet. Run one of the images that are READY." });
}

const what = (container, names) =>
  [container.name, names.image(container), container.uuid, container.reason, container.refusals];

const showWhat = ([name, image, uuid, reason, refusals]) => [
  make("strong", {}, name),
  soft(image),
  id(uuid),
  reason ? make("div", { class: "reason" }, reason) : "",
  Object.keys(refusals).length ? showRefusals(refusals) : "",
];

const showRefusals = refusals => make("details", {},
  make("summary", {}, `Refused by ${plural(Object.keys(refusals).length, "node")}`),
  make("ul", { class: "findings" }, ...Object.entries(refusals).map(([node, reasons]) =>
    make("li", {}, make("strong", {}, node), `: ${reasons.join("; ")}`))));

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

const isOver = ({ status }) => OVER.has(status);

// What has ended holds nothing any more: its record only remembers.
const place = (container, names) =>
  [names.node(container.node), isOver(container) ? [] : container.ports];

const showPlace = ([node, ports]) => [
  node ? make("div", {}, node) : make("span", { class: "soft" }, "none"),
  ...ports.map(port => make("div", {}, showPort(port))),
];

function showPort({ address, host, internal, protocol }) {
  const text = `${address}:${host} → ${internal}${protocol === "tcp" ? "" : `/${protocol}`}`;
  const where = `http://${address.includes(":") ? `[${address}]` : address}:${host}/`;
  if (protocol !== "tcp" || !URL.canParse(where)) return make("code", {}, text);
  return make("a", { href: where, target: "_blank", rel: "noopener noreferrer" }, text);
}

const gpus = (container, names) => [
  isOver(container) ? [] : container.gpus,
  names.gpus(container.node, container.gpus),
  isOver(container) ? 0 : container.spec.gpus ?? 0,
];

const showGpus = ([uuids, words, wanted]) => {
  if (uuids.length) return [make("span", { title: uuids.join("\n") }, words)];
  return [make("span", { class: "soft" }, wanted ? `${wanted} wanted` : "none")];
};

function actions(container, { containers, onLogs }) {
  const { desired, node } = container;
  const path = `containers/${container.uuid}`;
  const logs = make("button", { click: () => onLogs(container) }, "Logs");
  const stop = ask("Stop", "Stop container?",
    `${container.name} will be stopped and not restarted. Its logs stay, its GPUs become free.`,
    async () => containers.put(await call(`${path}/stop`, { method: "POST" })));
  const remove = ask("Delete", "Delete container?",
    `${container.name} will be stopped and removed, together with its logs.`,
    async () => containers.put(await call(path, { method: "DELETE" })));
  const isStoppable = !isOver(container) && desired === "RUNNING";
  return [node ? logs : "", isStoppable ? stop : "", desired === "DELETED" ? "" : remove];
}

function ask(yes, title, text, work) {
  const button = make("button", { class: yes === "Delete" ? "danger" : null }, yes);
  button.addEventListener("click", () => carryOut(button, async () => {
    if (await agreed({ title, text, yes })) await work();
  }));
  return button;
}
