// What is changed about a deployment: how many replicas, of what they are made, or back to before.

import { newest } from "./api.js";
import { ask } from "./ask.js";
import { imageName } from "./images.js";
import { pair } from "./forms.js";

const SHOWN_IMAGES = 200;

/** `change(way, body, method)` asks the server for it and takes what it answers. */
export function scale({ name, replicas, min_replicas: least, max_replicas: most }, change) {
  ask({
    title: `Scale ${name}`,
    yes: "Scale",
    fields: [{
      name: "replicas", label: "Replicas", hint: `${least} to ${most}`, type: "number", min: least, max: most,
      value: replicas, required: true, inputmode: "numeric",
    }],
    work: values => change("/scale", { replicas: Number(values.replicas) }),
  });
}

export function rollBack({ name, history }, change) {
  const options = history.map(({ generation, made_at: at }) =>
    [String(generation), `number ${generation}, of ${new Date(at).toLocaleString()}`]);
  ask({
    title: `Roll ${name} back`,
    yes: "Roll back",
    fields: [{ name: "generation", label: "Template", hint: "it rolls out like an edit",
      options: options.toSorted(([one], [other]) => Number(other) - Number(one)) }],
    work: ({ generation }) => change("/rollback", { generation: Number(generation) }),
  });
}

export async function edit(deployment, change) {
  const { name, template: { spec }, min_replicas: least, max_replicas: most } = deployment;
  const { items } = await newest("images", SHOWN_IMAGES, { status: "READY" });
  const others = items.filter(({ uuid }) => uuid !== spec.image).map(image => [image.uuid, imageName(image)]);
  const known = items.find(({ uuid }) => uuid === spec.image);
  const number = { type: "number", required: true, inputmode: "numeric" };
  const env = Object.entries(spec.env).map(([key, value]) => `${key}=${value}`);
  // A value of several lines could not be told from the next one.
  const isPlain = env.every(line => !/[\r\n]/.test(line));
  ask({
    title: `Edit ${name}`,
    yes: "Save",
    fields: [
      { name: "image", label: "Image", hint: "another one rolls out", value: spec.image,
        options: [[spec.image, known ? imageName(known) : "the present one"], ...others] },
      { ...number, name: "min_replicas", label: "Least replicas", min: 0, value: least },
      { ...number, name: "max_replicas", label: "Most replicas", min: 1, value: most },
      ...(isPlain ? [{ name: "env", label: "Environment", hint: "NAME=value, one a line", rows: 4,
        value: env.join("\n") }] : []),
    ],
    work: values => change("", changes(deployment, values), "PATCH"),
  });
}

/** Only what is other than before: a template that is sent rolls out. */
function changes({ template: { spec }, min_replicas: least, max_replicas: most }, values) {
  const body = {};
  if (Number(values.min_replicas) !== least) body.min_replicas = Number(values.min_replicas);
  if (Number(values.max_replicas) !== most) body.max_replicas = Number(values.max_replicas);
  const env = values.env === undefined ? spec.env
    : Object.fromEntries(values.env.split(/\r?\n/).filter(line => line.trim()).map(pair));
  const template = { ...spec, image: values.image, env };
  if (values.image !== spec.image || !isSame(env, spec.env)) body.template = template;
  return body;
}

const isSame = (one, other) =>
  JSON.stringify(Object.entries(one).sort()) === JSON.stringify(Object.entries(other).sort());
