// What the page says to its reader: to the eye and, through live regions, to the ear.

import { find, make } from "./dom.js";

const STAYS_MS = 12_000;

/** A short sentence for screen readers only. */
export function announce(text) {
  find("announcer").textContent = text;
}

/** A sentence that everybody sees until it is dismissed or old. */
export function notify(text, { isProblem = false } = {}) {
  const close = make("button", { class: "quiet", "aria-label": "Dismiss" }, "×");
  const notice = make("div", { class: isProblem ? "notice problem" : "notice" },
    make("span", { role: isProblem ? "alert" : null }, text), close);
  const remove = () => notice.remove();
  close.addEventListener("click", remove);
  setTimeout(remove, STAYS_MS);
  find("notices").append(notice);
}

/** Runs what a button is for, once at a time; a refusal becomes a notice. */
export async function carryOut(button, work) {
  if (button.ariaDisabled === "true") return;
  button.ariaDisabled = "true"; // `disabled` would take the focus away
  try {
    await work();
  } catch (error) {
    if (error.status === undefined) throw error;
    notify(error.message, { isProblem: true });
  } finally {
    button.ariaDisabled = "false";
  }
}

/** Resolves to whether the reader said yes to `{ title, text, yes }`. */
export function agreed({ title, text, yes }) {
  const dialog = find("confirm");
  const opener = document.activeElement;
  find("confirm-title").textContent = title;
  find("confirm-text").textContent = text;
  find("confirm-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise(resolve => {
    dialog.addEventListener("close", () => {
      if (!opener.isConnected) find("heading").focus(); // its cell was drawn anew meanwhile
      resolve(dialog.returnValue === "yes");
    }, { once: true });
  });
}

/** A button that asks `{ title, text }` first where it is given, and then does its work. */
export function doing(label, work, question = null, attributes = {}) {
  const isDanger = label === "Delete" || label === "Drop";
  const button = make("button", { class: isDanger ? "danger" : null, ...attributes }, label);
  button.addEventListener("click", () => carryOut(button, async () => {
    if (question === null || await agreed({ ...question, yes: label })) await work();
  }));
  return button;
}

/** Buttons that close the dialog they are in, with their value as its answer. */
export function wireDialogs() {
  for (const button of document.querySelectorAll("dialog [data-close]"))
    button.addEventListener("click", () => button.closest("dialog").close(button.dataset.close));
}
