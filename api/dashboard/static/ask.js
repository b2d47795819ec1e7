// A question with fields: built when it is asked, gone when it is answered.

import { make } from "./dom.js";

let asked = 0;

/**
 * `fields`: `{ name, label, hint, value, options, rows, ...attributes }`; with `options` (value,
 * text) it is a select, with `rows` a text area, else an input. `work(values)` gets texts; what it
 * throws stands above the fields, and the dialog stays.
 */
export function ask({ title, yes, fields, work }) {
  const id = `ask-${++asked}`;
  const problems = make("ul", { class: "problems", role: "alert" });
  const send = make("button", { type: "submit", class: "primary" }, yes);
  const cancel = make("button", { type: "button", click: () => dialog.close() }, "Cancel");
  const form = make("form", {}, make("h2", { id }, title), problems, ...fields.map(labelled),
    make("div", { class: "buttons" }, cancel, send));
  const dialog = make("dialog", { class: "ask", "aria-labelledby": id }, form);
  const opener = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (opener?.isConnected) opener.focus();
    else document.getElementById("heading")?.focus();
  });
  form.addEventListener("submit", async event => {
    event.preventDefault();
    if (send.disabled) return;
    send.disabled = true;
    try {
      await work(Object.fromEntries(new FormData(form)));
      dialog.close();
    } catch (error) {
      complain(form, problems, error);
    } finally {
      send.disabled = false;
    }
  });
  document.body.append(dialog);
  dialog.showModal();
}

function labelled({ label, hint, value = "", options, rows, ...attributes }) {
  const control = options
    ? make("select", attributes, ...options.map(([one, text]) =>
      make("option", { value: one, selected: one === value }, text)))
    : rows ? make("textarea", { rows, spellcheck: "false", ...attributes }, value)
      : make("input", { spellcheck: "false", ...attributes, value });
  return make("label", {}, label, hint ? make("small", {}, ` ${hint}`) : "", control);
}

function complain(form, problems, error) {
  const listed = error.errors?.length ? error.errors : [{ field: "", message: error.message }];
  problems.replaceChildren(...listed.map(({ field, message }) =>
    make("li", {}, field ? `${field}: ` : "", message)));
  for (const control of form.elements) {
    const isBad = listed.some(({ field }) => field && field.split(".").includes(control.name));
    if (isBad) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
  }
  form.querySelector("[aria-invalid]")?.focus();
}
