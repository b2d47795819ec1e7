// Nodes: what each has, what of it is in use, and whether it is alive.

import { age, badge, bytes, id, make, soft } from "./dom.js";
import { Table } from "./table.js";

export function nodeTable(section, nodes) {
  return new Table(section, nodes, [
    { title: "Node", read: what, show: showWhat },
    { title: "Status", read: node => node.status, show: status => badge(status) },
    { title: "GPUs", read: gpus, show: showGpus },
    { title: "Machine", read: machine, show: lines => lines.map(line => make("div", {}, line)) },
    { title: "Heartbeat", read: node => node.last_heartbeat, show: age },
  ], { empty: "No nodes yet. Start an agent beside a Docker Engine: modelyard agent." });
}

/** `2 × NVIDIA H100 80GB HBM3 (simulated)`. */
export function gpusInWords(node, uuids) {
  const known = (node?.inventory.gpus ?? []).filter(gpu => uuids.includes(gpu.uuid));
  const models = [...new Set(known.map(gpu => gpu.model))].join(", ") || "GPU";
  const kind = known.some(gpu => gpu.simulated) ? " (simulated)" : "";
  return `${uuids.length} × ${models}${kind}`;
}

const what = node => [node.name, node.address, node.uuid, node.labels, node.reason];

const showWhat = ([name, address, uuid, labels, reason]) => [
  make("strong", {}, name),
  soft([address, ...Object.entries(labels).map(pair => pair.join("="))].join(" · ")),
  id(uuid),
  reason ? make("div", { class: "reason" }, reason) : "",
];

const gpus = node => {
  const held = new Set(node.held);
  return node.inventory.gpus.map(({ uuid, model, healthy, fault, simulated }) =>
    ({ uuid, model, simulated, fault, state: !healthy ? "bad" : held.has(uuid) ? "held" : "free" }));
};

function showGpus(all) {
  if (all.length === 0) return [make("span", { class: "soft" }, "none")];
  const held = all.filter(gpu => gpu.state === "held").length;
  const faults = all.filter(gpu => gpu.state === "bad");
  const isSimulated = all.some(gpu => gpu.simulated);
  const squares = all.map(({ state, uuid, fault }) =>
    make("span", { class: `gpu ${state}`, title: `${uuid}: ${fault ?? state}` }));
  return [
    make("div", {}, make("strong", {}, `${held} of ${all.length}`), " held ",
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
