// The two forms: bring an image, run a container.

import { call, newest, newKey } from "./api.js";
import { address, find, make } from "./dom.js";
import { imageName } from "./images.js";
import { notify } from "./notices.js";

/** Posts what `read` makes of the fields; `onDone` gets the record that the server answers. */
class Form {
  #key = newKey();

  onDone = () => {};

  constructor(dialog, path, read) {
    Object.assign(this, { dialog, path, read });
    this.form = dialog.querySelector("form");
    this.problems = dialog.querySelector(".problems");
    this.form.addEventListener("submit", event => {
      event.preventDefault();
      this.#send();
    });
    // Another wish is another key; the same one, sent twice, is carried out once.
    this.form.addEventListener("input", () => { this.#key = newKey(); });
  }

  open() {
    this.#key = newKey();
    this.#complain([]);
    this.dialog.showModal();
  }

  async #send() {
    const button = this.form.querySelector("[type=submit]");
    if (button.disabled) return;
    button.disabled = true;
    try {
      const body = this.read(new FormData(this.form));
      const record = await call(this.path, { method: "POST", body, key: this.#key });
      this.dialog.close();
      this.form.reset();
      this.onDone(record);
    } catch (error) {
      const listed = error.errors?.length ? error.errors : [{ field: "", message: error.message }];
      this.#complain(listed);
    } finally {
      button.disabled = false;
    }
  }

  #complain(errors) {
    const named = errors.map(({ field, message }) => make("li", {}, field ? `${field}: ` : "", message));
    this.problems.replaceChildren(...named);
    for (const control of this.form.elements) {
      const isBad = errors.some(({ field }) => field && field.split(".")[0] === control.name);
      control.toggleAttribute("aria-invalid", isBad);
      if (isBad) control.setAttribute("aria-invalid", "true");
    }
    this.form.querySelector("[aria-invalid]")?.focus();
  }
}

/** `add(collection)` and `run(image, collection)`: the collection is given what was made. */
export function openForms() {
  const image = new Form(find("add-image"), "images", readImage);
  const container = new Form(find("run-container"), "containers", readContainer);
  return {
    add(collection) {
      image.onDone = record => {
        collection.put(record);
        notify(`${imageName(record)} is being proved.`);
      };
      image.open();
    },
    async run(chosen, collection = null) {
      const { items } = await newest("images", 200, { status: "READY" });
      const offered = eachNameOnce(chosen ? [chosen, ...items] : items);
      find("run-image").replaceChildren(
        ...offered.map(one => make("option", { value: one.uuid }, title(one))));
      container.onDone = record => {
        collection?.put(record);
        notify(`${record.name} is being placed.`);
        if (collection === null) location.hash = address(["containers", record.uuid]);
      };
      container.open();
    },
  };
}

/** Newest first come, and the newest is what a name means. */
function eachNameOnce(images) {
  const named = new Map();
  for (const image of images)
    if (!named.has(title(image))) named.set(title(image), image);
  return [...named.values()];
}

const title = image => (image.named && image.name !== image.reference
  ? `${image.name} (${image.reference})` : imageName(image));

const readImage = data => filled({
  reference: text(data, "reference"),
  name: text(data, "name"),
  platform: text(data, "platform"),
  secret: text(data, "secret"),
});

const readContainer = data => filled({
  image: text(data, "image"),
  name: text(data, "name"),
  gpus: text(data, "gpus") && Number(text(data, "gpus")),
  command: lines(data, "command"),
  env: Object.fromEntries(lines(data, "env").map(pair)),
  ports: text(data, "ports").split(/[\s,]+/).filter(Boolean).map(port),
  node: text(data, "node"),
  restart: text(data, "restart"),
});

const filled = fields =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== ""));

const text = (data, name) => (data.get(name) ?? "").trim();

const lines = (data, name) =>
  (data.get(name) ?? "").split(/\r?\n/).filter(line => line.trim() !== "");

/** `NAME=value` as both; throws what a form shows. */
export function pair(line) {
  const at = line.indexOf("=");
  if (at < 1) throw refusal("env", `“${line}” is not NAME=value.`);
  return [line.slice(0, at).trim(), line.slice(at + 1)];
}

function port(word) {
  const parts = /^(?:(\d+):)?(\d+)(?:\/(tcp|udp))?$/.exec(word);
  if (!parts) throw refusal("ports", `“${word}” is not [HOST:]CONTAINER[/udp].`);
  const [, host, internal, protocol] = parts;
  return { internal: Number(internal), host: Number(host ?? 0), protocol: protocol ?? "tcp" };
}

const refusal = (field, message) =>
  Object.assign(new Error(message), { errors: [{ field, message }] });
