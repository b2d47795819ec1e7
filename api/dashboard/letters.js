// Dead letters: messages that could not be handled, and what to do with them.

import { call } from "./api.js";
import { age, id, make, plural, soft } from "./dom.js";
import { agreed, carryOut, notify } from "./notices.js";
import { Table } from "./table.js";

export function letterTable(section, letters) {
  return new Table(section, letters, [
    { title: "Message", read: what, show: showWhat },
    { title: "Reason", read: why, show: showWhy },
    { title: "Given up", read: letter => letter.time, show: age },
    {
      title: "Actions", isQuiet: true, read: letter => letter.truncated,
      show: (_, letter) => actions(letter, letters),
    },
  ], { empty: "None: every message was handled." });
}

const what = letter => [letter.subject, letter.type, letter.id];

const showWhat = ([subject, type, number]) => [
  make("strong", {}, subject), type ? soft(type) : "", id(`letter ${number}`),
];

const why = ({ code, reason, attempts, history, stage, id }) =>
  ({ code, reason, attempts, history, stage, id });

function showWhy({ code, reason, attempts, history, stage, id: number }) {
  const payload = make("pre", { tabindex: 0 }, "…");
  const details = make("details", {},
    make("summary", {}, `Payload and ${plural(attempts, "attempt")}`),
    soft(stage ? `on ${stage}` : ""),
    make("ul", { class: "findings" }, ...history.map(attempt =>
      make("li", {}, `${attempt.number}. `, make("code", {}, attempt.code), ` ${attempt.reason}`))),
    payload);
  details.addEventListener("toggle", () => {
    if (details.open) showPayload(number, payload);
  });
  return [make("div", { class: "reason" }, make("code", {}, code), ` ${reason}`), details];
}

async function showPayload(number, element) {
  try {
    const { data, data_base64: raw } = await call(`dead-letters/${number}`);
    element.textContent = raw ?? JSON.stringify(data, null, 2);
  } catch (error) {
    element.textContent = error.message;
  }
}

function actions(letter, letters) {
  const requeue = make("button", {}, "Requeue");
  const drop = make("button", { class: "danger" }, "Drop");
  requeue.addEventListener("click", () => carryOut(requeue, async () => {
    await call(`dead-letters/${letter.id}/requeue`, { method: "POST" });
    letters.touch(letter.id);
    notify(`Given to the workers again: ${letter.subject}`);
  }));
  drop.addEventListener("click", () => carryOut(drop, async () => {
    if (!await agreed({
      title: "Drop dead letter?", text: `${letter.subject} will be forgotten for good.`, yes: "Drop",
    })) return;
    await call(`dead-letters/${letter.id}`, { method: "DELETE" });
    letters.touch(letter.id);
  }));
  return letter.truncated ? [drop] : [requeue, drop];
}
