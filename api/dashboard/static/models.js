// Models and their versions, which the API of models answers for.

import { call } from "./api.js";
import { age, badge, code, link, make, plural, progress, soft } from "./dom.js";
import { doing } from "./notices.js";
import { nameColumn, reasonText, recordPage } from "./pages.js";
import { Table } from "./table.js";

const API = "../../api/models";

const oldestFirst = (one, other) => Date.parse(one.createdAt) - Date.parse(other.createdAt);

export const models = {
  path: "models",
  timeline: "models",
  title: "Models",
  empty: "No models yet. Make one: modelyard models create.",
  name: model => model.name,
  columns: () => [
    nameColumn("Model", "models", "identifier", ({ name, description }) => [name, description],
      ([description]) => [description ? soft(description) : ""]),
    { title: "Newest version", read: ({ latestVersion: version }) => version },
    { title: "Active version", read: ({ latestActiveVersion: version }) => version },
    { title: "Tags", read: ({ tags }) => tags, show: tags => tags.join(", ") },
    { title: "Changed", read: ({ updatedAt: at }) => at, show: age },
  ],
  facts: () => [
    { title: "Description", read: ({ description }) => description },
    { title: "Newest version", read: ({ latestVersion: version }) => version },
    { title: "Active version", read: ({ latestActiveVersion: version }) => version },
    { title: "Tags", read: ({ tags }) => tags, show: tags => tags.join(", ") },
    { title: "Made", read: ({ createdAt: at }) => at, show: age },
    { title: "Changed", read: ({ updatedAt: at }) => at, show: age },
    { title: "ID", read: ({ identifier: id }) => id, show: code },
  ],
  below({ id, own, live }) {
    const at = `${API}/${encodeURIComponent(id)}/versions`;
    const table = new Table(own(live.open("versions", { at, order: oldestFirst })), [
      { title: "Version", read: ({ version }) => version,
        show: version => link(["models", id, "versions", version], make("strong", {}, version)) },
      { title: "Status", read: ({ status }) => status },
      { title: "Changed", read: ({ updatedAt: changed }) => changed, show: age },
    ], { empty: "No versions." });
    return [make("section", { id: "versions", "aria-labelledby": "versions-heading" },
      make("h3", { id: "versions-heading" }, "Versions"), ...table.elements)];
  },
};

/** `models/<id>/versions/<version>` */
export function versionPage(context) {
  const [, model, , version] = context.steps;
  const at = `${API}/${encodeURIComponent(model)}/versions`;
  return recordPage({ ...VERSIONS, at, above: link(["models", model], "Its model") })(
    { ...context, id: version });
}

const VERSIONS = {
  path: "versions",
  title: "Versions",
  name: ({ version }) => `Version ${version}`,
  acting: ({ containerImage: image, runStatus: run }) => [image?.status, run.percentage],
  actions,
  facts: () => [
    { title: "Status", read: ({ status }) => status },
    { title: "Image", read: imageState, show: showImage },
    { title: "Reason", read: ({ containerImage: image }) => image?.technicalInformation, show: reasonText },
    { title: "Trial run", read: runState, show: showRun },
    { title: "Requires", read: ({ requirement }) => requirement,
      show: ({ cpuAmount: cpus, memoryAmount: memory, gpuUnits: gpus }) =>
        `${cpus} of a CPU, ${memory} of memory, ${plural(gpus, "GPU")}` },
    { title: "Time to run", read: ({ timeout }) => timeout.run, show: ms => `${ms / 1000} s` },
    { title: "Time to answer its status", read: ({ timeout }) => timeout.status, show: ms => `${ms / 1000} s` },
    { title: "Inputs", read: ({ inputs }) => inputs.map(({ name }) => name), show: names => names.join(", ") },
    { title: "Outputs", read: ({ outputs }) => outputs.map(({ name }) => name), show: names => names.join(", ") },
    { title: "Made", read: ({ createdAt: at }) => at, show: age },
    { title: "Changed", read: ({ updatedAt: at }) => at, show: age },
  ],
};

function imageState({ containerImage: image }) {
  return image && [image.status, image.stepName, image.uploadPercentage, image.loadPercentage];
}

function showImage([status, step, upload, load]) {
  if (status === "uploading") return [badge("UPLOADING"), progress("Upload", upload)];
  if (status === "loading") return [badge("LOADING"), progress(step, load)];
  return badge(status.toUpperCase());
}

const runState = ({ runStatus: { stepName, percentage, result } }) =>
  [stepName, percentage, result?.status, result?.error];

function showRun([step, percentage, outcome, error]) {
  if (outcome) return [badge(outcome === "SUCCESSFUL" ? "READY" : "FAILED", outcome), reasonText(error)];
  return percentage > 0 ? progress(step, percentage) : "none";
}

function actions({ identifier, version, containerImage: image }, collection, { may }) {
  if (!image || !may("container:run")) return [];
  const path = `${API}/${identifier}/versions/${encodeURIComponent(version)}`;
  const ask = async way => {
    await call(`${path}/${way}`, { method: "POST" });
    collection.reload();
  };
  const isLoaded = image.status === "loaded";
  return [
    image.status === "uploaded" || image.status === "failed" ? doing("Load", () => ask("load-process")) : "",
    isLoaded ? doing("Trial run", () => ask("run-process")) : "",
    isLoaded ? doing("Shut down", () => ask("shutdown"), {
      title: "Shut model down?", text: "The container that answers calls will end; the next call starts one.",
    }) : "",
  ];
}
