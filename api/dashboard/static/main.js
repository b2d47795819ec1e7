// The page put together: token, pages, feed.

import { secrets, tokens } from "./access.js";
import { audit } from "./audit.js";
import { builds } from "./builds.js";
import { call, token, whenUnauthorised } from "./api.js";
import { containers, logsPage } from "./containers.js";
import { deployments } from "./deployments.js";
import { find } from "./dom.js";
import { Events, eventsPage } from "./events.js";
import { Feed } from "./feed.js";
import { openForms } from "./forms.js";
import { images } from "./images.js";
import { letters } from "./letters.js";
import { Live } from "./live.js";
import { models, versionPage } from "./models.js";
import { nodes } from "./nodes.js";
import { notify, wireDialogs } from "./notices.js";
import { overviewPage, showState } from "./overview.js";
import { organisations, users } from "./organisations.js";
import { listPage, recordPage } from "./pages.js";
import { registries } from "./registries.js";
import { Router } from "./router.js";
import { searchPage, wireSearch } from "./search.js";
import { uploads } from "./uploads.js";
import { webhooks } from "./webhooks.js";

const RETRY_MS = 3000;

const ROUTES = { "": overviewPage, events: eventsPage, "containers/*/logs": logsPage,
  "models/*/versions/*": versionPage, audit: listPage(audit), search: searchPage };
for (const resource of [
  containers, deployments, models, images, builds, uploads, nodes, registries, secrets, webhooks, tokens,
  organisations, users, letters,
]) {
  ROUTES[resource.path] = listPage(resource);
  ROUTES[`${resource.path}/*`] = recordPage(resource);
}

async function begin() {
  let me;
  try {
    me = await call("me");
  } catch (error) {
    if (token.get() === null) return; // it was refused
    notify(error.message, { isProblem: true });
    setTimeout(begin, RETRY_MS);
    return;
  }
  // What a role may not do is not offered; the server refuses it anyhow.
  const may = permission => me.permissions.includes(permission);
  for (const part of document.querySelectorAll("[data-may]")) part.hidden = !may(part.dataset.may);
  find("who").textContent = `${me.name} (${me.org}, ${me.roles.join(", ")})`;
  const live = new Live();
  const events = new Events();
  const machines = may("node:view") ? live.open("nodes") : null;
  const router = new Router(ROUTES, {
    live, may, events, forms: openForms(),
    node: uuid => machines?.records.get(uuid),
    onNodes(listener) {
      if (machines) machines.onChange = listener;
    },
  });
  const feed = follow(live, events);
  whenUnauthorised(() => {
    feed.stop();
    router.close();
    live.close();
    leave("This token is not accepted, or it has ended. Enter another one.");
  });
  router.start();
  if (may("event:view")) feed.start();
  else showState("refused", "your role may not see events");
}

function follow(live, events) {
  return new Feed({
    onState: showState,
    onEvent(event, isNews) {
      events.add(event, isNews);
      if (isNews) live.touch(event.resource, event.subject);
    },
    onReset(reason) {
      events.remark(`The feed began anew (${reason}): some events may be missing here.`);
      live.reload();
    },
  });
}

function enter() {
  find("gate").hidden = true;
  for (const part of document.querySelectorAll(".inside")) part.hidden = false;
  whenUnauthorised(() => leave("This token is not accepted, or it has ended. Enter another one."));
  begin();
}

function leave(why) {
  token.forget();
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  for (const part of document.querySelectorAll(".inside")) part.hidden = true;
  find("page").replaceChildren();
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
wireSearch();
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
