// Dead letters: messages that could not be handled, and what to do with them.

import { call } from "./api.js";
import { age, code, make, pairs, plural, soft } from "./dom.js";
import { doing, notify } from "./notices.js";
import { nameColumn } from "./pages.js";

export const letters = {
  path: "dead-letters",
  title: "Dead letters",
  empty: "None: every message was handled.",
  name: letter => letter.subject,
  acting: ({ truncated }) => truncated,
  actions,
  columns: () => [
    nameColumn("Message", "dead-letters", "id", ({ subject, type }) => [subject, type],
      ([type]) => [type ? soft(type) : ""]),
    { title: "Reason", read: why, show: showWhy },
    { title: "Attempts", read: ({ attempts }) => attempts },
    { title: "Given up", read: ({ time }) => time, show: age },
  ],
  facts: () => [
    { title: "Reason", read: why, show: showWhy },
    { title: "Type", read: ({ type }) => type, show: code },
    { title: "Stage", read: ({ stage }) => stage, show: code },
    { title: "Attempts", read: ({ attempts, history }) => ({ attempts, history }), show: showAttempts },
    // Values that its schema calls secret are masked; what no schema knows is told by type.
    { title: "Payload", read: payload, show: text => make("pre", { id: "payload", tabindex: 0 }, text) },
    { title: "Headers", read: ({ headers }) => headers, show: pairs },
    { title: "Given up", read: ({ time }) => time, show: age },
    { title: "Letter", read: ({ id }) => id, show: code },
  ],
};

const why = ({ code: word, reason }) => [word, reason];

const showWhy = ([word, reason]) => make("div", { class: "reason" }, code(word), ` ${reason}`);

const showAttempts = ({ attempts, history }) => [plural(attempts, "attempt"),
  make("ul", { class: "findings" }, ...history.map(attempt =>
    make("li", {}, `${attempt.number}. `, code(attempt.code), ` ${attempt.reason}`)))];

const payload = ({ data, size_bytes: size }) =>
  (data === null ? `${size ?? "?"} bytes that are not JSON` : JSON.stringify(data, null, 2));

function actions(letter, collection, { may }) {
  if (!may("dead-letter:write")) return [];
  const path = `dead-letters/${letter.id}`;
  const requeue = async () => {
    await call(`${path}/requeue`, { method: "POST" });
    collection.touch(letter.id);
    notify(`Given to the workers again: ${letter.subject}`);
  };
  const drop = async () => {
    await call(path, { method: "DELETE" });
    collection.touch(letter.id);
  };
  return [
    letter.truncated ? "" : doing("Requeue", requeue),
    doing("Drop", drop, {
      title: "Drop dead letter?", text: `${letter.subject} will be forgotten for good.`,
    }),
  ];
}
