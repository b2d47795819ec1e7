// Nodes: what each has, what of it is in use, and whether it is alive.

import { call } from "./api.js";
import { age, badge, bytes, code, make, pairs, soft } from "./dom.js";
import { doing } from "./notices.js";
import { nameColumn, reasonText } from "./pages.js";

export const nodes = {
  path: "nodes",
  title: "Nodes",
  filters: ["status"],
  statuses: ["READY", "NOT_READY", "LOST"],
  empty: "No nodes yet. Start an agent beside a Docker Engine: modelyard agent.",
  timeline: "nodes",
  name: node => node.name,
  acting: ({ status, cordoned, drain }) => [status, cordoned, drain === null],
  actions,
  columns: () => [
    nameColumn("Node", "nodes", "uuid", ({ name, address, reason }) => [name, address, reason],
      ([address, reason]) => [soft(address), reasonText(reason)]),
    { title: "Status", read: state, show: showState },
    { title: "GPUs", read: gpus, show: showGpus },
    { title: "Machine", read: machine, show: lines => lines.map(line => make("div", {}, line)) },
    { title: "Heartbeat", read: ({ last_heartbeat: at }) => at, show: age },
  ],
  facts: () => [
    { title: "Status", read: state, show: showState },
    { title: "Reason", read: ({ reason }) => reason, show: reasonText },
    { title: "Drain", read: ({ drain }) => drain?.said, show: said => said ?? "" },
    { title: "GPUs", read: gpus, show: all => [...showGpus(all), showEach(all)] },
    { title: "Machine", read: machine, show: lines => lines.map(line => make("div", {}, line)) },
    { title: "Address", read: ({ address }) => address, show: code },
    { title: "Labels", read: ({ labels }) => labels, show: pairs },
    { title: "Heartbeat", read: ({ last_heartbeat: at }) => at, show: age },
    { title: "Joined", read: ({ created_at: at }) => at, show: age },
    { title: "ID", read: ({ uuid }) => uuid, show: code },
  ],
  below: ({ id, may }) => (may("container:view") ? [make("p", {},
    make("a", { href: `#/containers?node=${encodeURIComponent(id)}` }, "Its containers"))] : []),
};

/** `2 × NVIDIA H100 80GB HBM3 (simulated)`. */
export function gpusInWords(node, uuids) {
  const known = (node?.inventory.gpus ?? []).filter(gpu => uuids.includes(gpu.uuid));
  const models = [...new Set(known.map(gpu => gpu.model))].join(", ") || "GPU";
  const kind = known.some(gpu => gpu.simulated) ? " (simulated)" : "";
  return `${uuids.length} × ${models}${kind}`;
}

const state = ({ status, cordoned, drain }) =>
  [status, drain ? `draining: ${drain.said}` : cordoned ? "cordoned" : ""];

const showState = ([status, closed]) => [badge(status), closed ? soft(closed) : ""];

const showEach = all => (all.length === 0 ? "" : make("details", {}, make("summary", {}, "Each"),
  make("ul", { class: "findings" }, ...all.map(({ uuid, state: now, model, memory, compute }) =>
    make("li", {}, make("code", {}, uuid), ` ${model}, ${bytes(memory)}, compute ${compute}: ${now}`)))));

const gpus = node => {
  const held = new Set(node.held);
  return node.inventory.gpus.map(({
    uuid, model, healthy, fault, simulated, memory_bytes: memory, compute_capability: compute,
  }) => ({
    uuid, model, simulated, fault, memory, compute, state: !healthy ? "bad" : held.has(uuid) ? "held" : "free",
  }));
};

function showGpus(all) {
  if (all.length === 0) return [make("span", { class: "soft" }, "none")];
  const held = all.filter(gpu => gpu.state === "held").length;
  const free = all.filter(gpu => gpu.state === "free").length;
  const faults = all.filter(gpu => gpu.state === "bad");
  const isSimulated = all.some(gpu => gpu.simulated);
  const squares = all.map(({ state, uuid, fault }) =>
    make("span", { class: `gpu ${state}`, title: `${uuid}: ${fault ?? state}` }));
  return [
    make("div", {}, make("strong", {}, `${held} of ${all.length}`), ` held, ${free} free `,
      isSimulated ? make("span", { class: "badge idle" }, "simulated") : ""),
    make("div", { class: "gpus", "aria-hidden": "true" }, ...squares),
    soft([...new Set(all.map(gpu => gpu.model))].join(", ")),
    ...faults.map(({ uuid, fault }) =>
      make("div", { class: "reason" }, `${uuid}: ${fault ?? "unhealthy"}`)),
  ];
}

function machine(node) {
  const { inventory } = node;
  const { os, architecture, variant } = inventory.platform;
  return [
    `${node.leased_cpus} of ${inventory.cpus} CPUs leased`,
    `${bytes(node.leased_memory_bytes)} of ${bytes(inventory.memory_bytes)} leased`,
    [os, architecture, variant].filter(Boolean).join("/"),
    inventory.engine_version ? `Docker ${inventory.engine_version}` : "",
    inventory.driver ? `driver ${inventory.driver}, CUDA ${inventory.cuda}` : "",
  ].filter(Boolean);
}

function actions(node, collection, { may }) {
  if (!may("node:write") || !may("container:stop") || node.status === "DELETED") return [];
  const { uuid, name, cordoned, drain, status } = node;
  const put = async (way, method) => collection.put(await call(`nodes/${uuid}${way}`, { method }));
  const word = cordoned ? "Uncordon" : "Cordon";
  return [
    drain ? "" : doing(word, () => put(`/${word.toLowerCase()}`, "POST")),
    drain ? doing("Resume", () => put("/resume", "POST"))
      : doing("Drain", () => put("/drain", "POST"), {
        title: "Drain node?",
        text: `Nothing new is placed on ${name}, and its replicas of deployments move to other nodes.`,
      }),
    status === "LOST" ? doing("Delete", () => put("", "DELETE"), {
      title: "Delete node?",
      text: `${name} will be given up. What ran there is placed anew.`,
    }) : "",
  ];
}
