// Deployments: replicas of one image that are kept answering.

import { call } from "./api.js";
import { age, badge, code, link, make, pairs, plural, soft } from "./dom.js";
import { edit, rollBack, scale } from "./changing.js";
import { doing } from "./notices.js";
import { nameColumn, reasonText } from "./pages.js";
import { Scaling, lastInWords, ruleInWords } from "./scaling.js";

export const deployments = {
  path: "deployments",
  title: "Deployments",
  filters: ["status"],
  statuses: ["DEPLOYING", "DEPLOYED", "DEGRADED", "FAILED", "SCALED_DOWN", "DELETING"],
  empty: "No deployments yet. Make one: modelyard deployments create.",
  timeline: "deployments",
  name: deployment => deployment.name,
  acting: ({ status, desired, revision }) => [status, desired, revision],
  actions,
  columns: () => [
    nameColumn("Deployment", "deployments", "uuid", ({ name, reason }) => [name, reason],
      ([reason]) => [reasonText(reason)]),
    { title: "Status", read: ({ status }) => status, show: status => badge(status) },
    { title: "Replicas", read: replicas, show: showReplicas },
    { title: "Age", read: ({ created_at: at }) => at, show: age },
  ],
  facts: () => [
    { title: "Status", read: ({ status }) => status, show: status => badge(status) },
    { title: "Reason", read: ({ reason }) => reason, show: reasonText },
    { title: "Given up", read: ({ blame }) => blame, show: reasonText },
    { title: "Replicas", read: replicas, show: showReplicas },
    { title: "Scaled by", read: ({ autoscale }) => autoscale, show: ruleInWords },
    { title: "Last scaled", read: ({ scaling }) => scaling, show: lastInWords },
    { title: "Answers calls of", read: ({ owner }) => owner && [owner.model, owner.version],
      show: ([model, version]) => link(["models", model, "versions", version], `${model} ${version}`) },
    { title: "Image", read: ({ template }) => template.spec.image,
      show: uuid => link(["images", uuid], uuid) },
    { title: "Template", read: ({ template }) => [template.generation, template.made_at],
      show: ([generation, at]) => [`number ${generation}, `, age(at)] },
    { title: "Environment", read: ({ template }) => template.spec.env, show: pairs },
    { title: "Earlier", read: ({ history }) => history.map(({ generation }) => generation),
      show: numbers => `templates ${numbers.join(", ")}` },
    { title: "Created", read: ({ created_at: at }) => at, show: age },
    { title: "By", read: ({ created_by: by }) => by },
    { title: "ID", read: ({ uuid }) => uuid, show: code },
  ],
  below({ id, own }, collection) {
    const scaling = new Scaling(collection, id);
    own(scaling);
    return [scaling.element];
  },
};

const replicas = one => [one.ready, one.replicas, one.min_replicas, one.max_replicas];

const showReplicas = ([ready, wanted, least, most]) => [
  make("div", {}, `${ready} of ${wanted} ready`), least === most ? "" : soft(`${least} to ${most}`),
];

const isAutomatic = ({ autoscale: rule }) =>
  Boolean(rule) && rule.targets.length + rule.schedules.length > 0;

function actions(deployment, collection, { may, id }) {
  const { uuid, name, desired, status, owner } = deployment;
  // One with an owner follows the version of a model, where it is shut down.
  if (owner || desired === "DELETED" || status === "DELETED") return [];
  const path = `deployments/${uuid}`;
  const put = async (way, method = "POST") => collection.put(await call(`${path}${way}`, { method }));
  // A template is replaced as a whole: of two who do that at once, the second one is told.
  const change = async (way, body, method = "POST") => collection.put(await call(`${path}${way}`, {
    method, body, headers: body.template ? { "If-Match": `"${deployment.revision}"` } : {},
  }));
  const isUp = desired === "RUNNING";
  return [
    !isUp && may("deployment:write") ? doing("Start", () => put("/start")) : "",
    id && isUp && may("deployment:write") ? doing("Restart", () => put("/restart")) : "",
    id && isUp && !isAutomatic(deployment) && may("deployment:write") ? doing("Scale", () => scale(deployment, change)) : "",
    id && may("deployment:write") ? doing("Edit", () => edit(deployment, change)) : "",
    id && deployment.history.length && may("deployment:write")
      ? doing("Roll back", () => rollBack(deployment, change)) : "",
    isUp && may("deployment:write") ? doing("Stop", () => put("/stop"), {
      title: "Stop deployment?", text: `All ${plural(deployment.replicas, "replica")} of ${name} will end.`,
    }) : "",
    may("deployment:write") ? doing("Delete", () => put("", "DELETE"), {
      title: "Delete deployment?", text: `${name} will be removed, together with its replicas.`,
    }) : "",
  ];
}
