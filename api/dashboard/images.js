// Images: what each is, how far its proof is, what was found.

import { call } from "./api.js";
import { age, badge, bytes, id, make, plural, progress, soft } from "./dom.js";
import { agreed, carryOut } from "./notices.js";
import { Table } from "./table.js";

/** How people know an image: by the name that somebody chose, or else by its reference. */
export const imageName = image => (image.named ? image.name : image.reference);

export function imageTable(section, images, { onRun }) {
  return new Table(section, images, [
    { title: "Image", read: what, show: showWhat },
    { title: "Status", read: state, show: showState },
    { title: "Needs", read: needs, show: lines => lines.map(line => make("div", {}, line)) },
    { title: "Findings", read: image => image.findings, show: showFindings },
    { title: "Age", read: image => image.created_at, show: age },
    {
      title: "Actions", isQuiet: true, read: image => image.status,
      show: (_, image) => actions(image, images, onRun),
    },
  ], { empty: "No images yet. Add one by its reference in a registry." });
}

const what = image => [image.named, image.name, image.reference, image.uuid, image.reason];

const showWhat = ([named, name, reference, uuid, reason]) => [
  make("strong", {}, named ? name : reference),
  named ? soft(reference) : "",
  id(uuid),
  reason ? make("div", { class: "reason" }, reason) : "",
];

const state = image => [image.status, image.upload?.percentage ?? 0, image.load?.percentage ?? 0];

const UNSETTLED = new Set(["PENDING", "UPLOADING", "VALIDATING"]);

function showState([status, upload, load]) {
  const shown = [badge(status)];
  if (status === "UPLOADING" || (UNSETTLED.has(status) && upload > 0))
    shown.push(progress("Upload", upload));
  if (load > 0 && load < 100) shown.push(progress("Load", load));
  return shown;
}

function needs(image) {
  const { ports = [], gpus, cuda, driver, compute_capability: capability } = image.needs;
  const platform = image.platform
    && [image.platform.os, image.platform.architecture, image.platform.variant];
  return [
    platform ? platform.filter(Boolean).join("/") : "",
    bytes(image.size_bytes),
    gpus ? plural(gpus, "GPU") : "",
    cuda ? `CUDA ≥ ${cuda}` : "",
    driver ? `driver ≥ ${driver}` : "",
    capability ? `compute ≥ ${capability}` : "",
    ports.length ? `port ${ports.join(", ")}` : "",
  ].filter(Boolean);
}

function showFindings(findings) {
  if (findings.length === 0) return [make("span", { class: "soft" }, "none")];
  const list = findings.map(({ severity, message, code }) =>
    make("li", {}, badge(severity), ` ${message} `, make("code", {}, code)));
  const errors = findings.filter(({ severity }) => severity === "error").length;
  const title = plural(findings.length, "finding") + (errors ? `, ${plural(errors, "error")}` : "");
  return [make("details", { open: errors > 0 },
    make("summary", {}, title), make("ul", { class: "findings" }, ...list))];
}

function actions(image, images, onRun) {
  const run = make("button", { click: () => onRun(image) }, "Run");
  const remove = make("button", { class: "danger" }, "Delete");
  remove.addEventListener("click", () => carryOut(remove, () => deleteImage(image, images)));
  return image.status === "READY" ? [run, remove] : [remove];
}

async function deleteImage(image, images) {
  const said = await agreed({
    title: "Delete image?",
    text: `${imageName(image)} will be forgotten here. What lies in its registry stays.`,
    yes: "Delete",
  });
  if (said) images.put(await call(`images/${image.uuid}`, { method: "DELETE" }));
}
