// The first page: how many of what there are, whatever a list shows, and what asks for attention.

import { badge, find, link, make, plural } from "./dom.js";
import { announce } from "./notices.js";
import { reasonText } from "./pages.js";

const COUNTED = 500; // newest records that are counted

const TILES = [
  ["containers", "Containers", "container:view"],
  ["deployments", "Deployments", "deployment:view"],
  ["images", "Images", "image:view"],
  ["nodes", "Nodes", "node:view"],
  ["dead-letters", "Dead letters", "dead-letter:view"],
];

export function overviewPage({ live, own, may }) {
  const tiles = make("ul", { id: "tiles", "aria-label": "At a glance" });
  const troubles = make("ul", { id: "troubles" });
  const isCalm = make("p", { class: "note" }, "Nothing asks for attention.");
  const collections = TILES.filter(([, , permission]) => may(permission)).map(([path, title]) => {
    const collection = own(live.open(path, { size: COUNTED }));
    const tile = { number: make("b", { id: `${path}-number` }, "–"), words: make("small") };
    const element = link([path], tile.number, make("span", {}, title), tile.words);
    element.id = `${path}-tile`;
    tiles.append(make("li", {}, element));
    collection.onChange = () => {
      count(collection, tile, element);
      const found = collections.flatMap(one => one.list.filter(record => isTrouble(one.path, record))
        .map(record => trouble(one.path, record)));
      troubles.replaceChildren(...found.slice(0, 50));
      isCalm.hidden = found.length > 0;
    };
    return collection;
  });
  return {
    title: "Overview",
    body: [tiles, make("section", { "aria-labelledby": "attention" },
      make("h3", { id: "attention" }, "Needs attention"), isCalm, troubles)],
  };
}

function count({ path, list, more, problem, isLoaded }, tile, element) {
  const [number, words] = SUMMARIES[path](list);
  tile.number.textContent = isLoaded ? `${number}${more ? "+" : ""}` : "–";
  tile.words.textContent = problem ? "not available" : isLoaded ? words : "";
  element.classList.toggle("warn", list.some(record => isTrouble(path, record)));
}

const TROUBLES = new Set(["UNHEALTHY", "FAILED", "LOST", "NOT_READY", "DEGRADED"]);

const isTrouble = (path, { status }) => path === "dead-letters" || TROUBLES.has(status);

const trouble = (path, { uuid, id, name, subject, status, reason }) => make("li", {},
  link([path, uuid ?? id], make("strong", {}, name ?? subject)), " ",
  badge(status ?? "DEAD"), reasonText(reason));

const having = (list, ...statuses) => list.filter(({ status }) => statuses.includes(status)).length;

const SUMMARIES = {
  containers: list => [
    having(list, "RUNNING"),
    `running of ${list.length}${counted(list, "UNHEALTHY", "RESTARTING", "FAILED", "LOST")}`,
  ],
  deployments: list => [
    having(list, "DEPLOYED"), `deployed of ${list.length}${counted(list, "DEGRADED", "FAILED")}`,
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
  "dead-letters": list => [list.length, "given up"],
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
