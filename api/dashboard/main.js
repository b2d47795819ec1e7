// The page put together: token, collections, feed.

import { Activity } from "./activity.js";
import { token, whenUnauthorised } from "./api.js";
import { Collection } from "./collection.js";
import { containerTable } from "./containers.js";
import { find } from "./dom.js";
import { Feed } from "./feed.js";
import { containerForm, imageForm } from "./forms.js";
import { imageName, imageTable } from "./images.js";
import { letterTable } from "./letters.js";
import { Logs } from "./logs.js";
import { gpusInWords, nodeTable } from "./nodes.js";
import { carryOut, wireDialogs } from "./notices.js";
import { showState, showTile } from "./overview.js";

const POLL_MS = 5000; // heartbeats and dead letters make no events

const images = new Collection("images");
const containers = new Collection("containers");
const nodes = new Collection("nodes");
const letters = new Collection("dead-letters", {
  key: "id", order: (one, other) => Number(other.id) - Number(one.id),
});
const collections = { image: images, container: containers, node: nodes };

function begin() {
  const activity = new Activity();
  const logs = new Logs();
  const newContainer = containerForm(containers);
  const newImage = imageForm(images);
  const names = {
    image: ({ image, spec }) =>
      (images.records.has(image) ? imageName(images.records.get(image)) : spec.image),
    node: uuid => nodes.records.get(uuid)?.name ?? uuid,
    gpus: (node, uuids) => gpusInWords(nodes.records.get(node), uuids),
  };
  const run = image => carryOut(find("run"), () => newContainer.open(image));
  const tables = {
    containers: containerTable(find("containers"), containers, {
      names, onLogs: container => logs.show(container),
    }),
    images: imageTable(find("images"), images, { onRun: run }),
    nodes: nodeTable(find("nodes"), nodes),
    letters: letterTable(find("letters"), letters),
  };
  for (const [name, table] of Object.entries(tables))
    table.onDraw = collection => {
      showTile(name, collection);
      if (name === "nodes" || name === "images") tables.containers.refresh();
    };
  wire(run, newImage);
  follow(activity, logs);
}

function wire(run, newImage) {
  find("run").addEventListener("click", () => run(null));
  find("add").addEventListener("click", () => newImage.open());
  for (const [select, collection] of [["image-filter", images], ["container-filter", containers]])
    find(select).addEventListener("change", event => collection.only(event.target.value));
}

function follow(activity, logs) {
  const all = [images, containers, nodes, letters];
  const feed = new Feed({
    onState: showState,
    onEvent(event, isNews) {
      activity.add(event, isNews);
      if (isNews) collections[event.resource]?.touch(event.subject);
      if (isNews && event.resource === "container") nodes.reload();
    },
    onReset(reason) {
      activity.remark(`The feed began anew (${reason}): some events may be missing here.`);
      for (const collection of all) collection.reload();
    },
  });
  const timer = setInterval(() => {
    if (!document.hidden) for (const collection of [nodes, letters]) collection.reload();
  }, POLL_MS);
  whenUnauthorised(() => {
    feed.stop();
    clearInterval(timer);
    for (const collection of all) collection.close();
    logs.hide();
    leave("This token is not accepted, or it has ended. Enter another one.");
  });
  feed.start();
  for (const collection of all) collection.reload();
}

function enter() {
  find("gate").hidden = true;
  for (const part of document.querySelectorAll(".inside")) part.hidden = false;
  begin();
}

function leave(why) {
  token.forget();
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  for (const part of document.querySelectorAll(".inside")) part.hidden = true;
  find("gate").hidden = false;
  find("gate-problem").textContent = why;
  find("token").focus();
}

let wasInside = false;

function knock() {
  if (token.get() === null) return leave("");
  // What another token saw is not to be mixed with what this one sees.
  if (wasInside) return location.reload();
  wasInside = true;
  enter();
}

wireDialogs();
find("gate-form").addEventListener("submit", event => {
  event.preventDefault();
  const given = find("token").value.trim();
  if (!given) return;
  token.set(given);
  find("token").value = "";
  knock();
});
find("leave").addEventListener("click", () => {
  token.forget();
  location.reload();
});
addEventListener("hashchange", () => { if (token.fromAddress()) knock(); });
token.fromAddress();
knock();
