// The first look: how many of what, and whether the page is up to date.

import { find, plural } from "./dom.js";
import { announce } from "./notices.js";

/** Says in the tile `name` what the collection holds. */
export function showTile(name, collection) {
  const { list, more, problem, isLoaded } = collection;
  const [number, words] = SUMMARIES[name](list);
  find(`${name}-number`).textContent = isLoaded ? `${number}${more ? "+" : ""}` : "–";
  find(`${name}-words`).textContent = problem ? "not available" : isLoaded ? words : "";
  find(`${name}-tile`).classList.toggle("warn", isLoaded && ALARMS[name](list));
}

const having = (list, ...statuses) => list.filter(({ status }) => statuses.includes(status)).length;

const SUMMARIES = {
  containers: list => [
    having(list, "RUNNING"),
    `running of ${list.length}${counted(list, "UNHEALTHY", "RESTARTING", "FAILED", "LOST")}`,
  ],
  images: list => [
    having(list, "READY"), `ready of ${list.length}${counted(list, "VALIDATING", "FAILED")}`,
  ],
  nodes: list => {
    const gpus = list.reduce((sum, node) => sum + node.inventory.gpus.length, 0);
    const held = list.reduce((sum, node) => sum + node.held.length, 0);
    const ready = `${having(list, "READY")} of ${plural(list.length, "node")} ready`;
    return [gpus ? `${held}/${gpus}` : list.length, gpus ? `GPUs held · ${ready}` : ready];
  },
  letters: list => [list.length, "given up"],
};

const ALARMS = {
  containers: list => having(list, "UNHEALTHY", "FAILED", "LOST") > 0,
  images: list => having(list, "FAILED") > 0,
  nodes: list => having(list, "LOST", "NOT_READY") > 0,
  letters: list => list.length > 0,
};

function counted(list, ...statuses) {
  return statuses
    .map(status => [having(list, status), status.toLowerCase()])
    .filter(([count]) => count > 0)
    .map(([count, word]) => ` · ${count} ${word}`)
    .join("");
}

const STATES = {
  live: () => "Live",
  waiting: wait => `Interrupted, again in ${Math.ceil(wait / 1000)} s`,
  refused: why => `No live updates: ${why}`,
};

export function showState(state, detail) {
  const pill = find("state");
  const text = STATES[state](detail);
  if (pill.dataset.state && pill.dataset.state !== state)
    announce(state === "live" ? "Live updates are back." : text);
  pill.dataset.state = state;
  pill.textContent = text;
}
