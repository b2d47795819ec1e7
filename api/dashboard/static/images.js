// Images: what each is, how far its proof is, what was found.

import { call } from "./api.js";
import { age, badge, bytes, code, link, make, pairs, plural, progress, soft } from "./dom.js";
import { doing } from "./notices.js";
import { nameColumn, reasonText } from "./pages.js";

const MAIN = { id: "add", class: "primary" };

/** How people know an image, and may call it: a name that a newer one has goes with the digest. */
export const imageName = image =>
  (image.superseded_by ? `${image.name}@${image.digest?.slice(0, 19)}` : image.name);

// Where a pushed one lies in the platform's registry is nobody's concern.
const source = image => (image.source !== "reference" ? "pushed"
  : image.reference === image.name ? "" : image.reference);

export const images = {
  path: "images",
  title: "Images",
  filters: ["status"],
  statuses: ["PENDING", "UPLOADING", "VALIDATING", "READY", "FAILED"],
  empty: "No images yet. Add one by its reference in a registry.",
  timeline: "images",
  name: imageName,
  acting: ({ status }) => status,
  actions,
  making: ({ may, forms }, collection) => (may("image:write")
    ? [doing("Add an image", () => forms.add(collection), null, MAIN)] : []),
  columns: () => [
    nameColumn("Image", "images", "uuid",
      image => [imageName(image), source(image), image.reason],
      ([from, reason]) => [from ? soft(from) : "", reasonText(reason)]),
    { title: "Status", read: state, show: showState },
    { title: "Needs", read: needs, show: showLines },
    { title: "Findings", read: ({ findings }) => findings, show: showFindings },
    { title: "Age", read: ({ created_at: at }) => at, show: age },
  ],
  facts: () => [
    { title: "Status", read: state, show: showState },
    { title: "Reason", read: ({ reason }) => reason, show: reasonText },
    { title: "Findings", read: ({ findings }) => findings, show: showFindings },
    { title: "From", read: source },
    { title: "Newer", read: image => image.superseded_by,
      show: uuid => link(["images", uuid], "the image that has the name now") },
    { title: "Pulled as", read: ({ pinned }) => pinned, show: code },
    { title: "Needs", read: needs, show: showLines },
    { title: "Labels", read: ({ labels, image_labels: own }) => ({ ...own, ...labels }), show: pairs },
    { title: "Created", read: ({ created_at: at }) => at, show: age },
    { title: "By", read: ({ created_by: by }) => by },
    { title: "ID", read: ({ uuid }) => uuid, show: code },
  ],
  below: ({ id, may }) => (may("container:view") ? [make("p", {},
    make("a", { href: `#/containers?image=${encodeURIComponent(id)}` }, "Its containers"))] : []),
};

const showLines = lines => lines.map(line => make("div", {}, line));

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

function actions(image, collection, { may, forms }) {
  const { uuid, status } = image;
  const remove = async () =>
    collection.put(await call(`images/${uuid}`, { method: "DELETE" }));
  return [
    status === "READY" && may("container:run") ? doing("Run", () => forms.run(image)) : "",
    status !== "DELETED" && may("image:write") ? doing("Delete", remove, {
      title: "Delete image?",
      text: image.source === "reference"
        ? `${imageName(image)} will be forgotten here. What lies in its registry stays.`
        : `${imageName(image)} will be removed, here and from the platform's registry.`,
    }) : "",
  ];
}
