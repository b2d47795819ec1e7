// Elements made by hand. Text only ever becomes text: nothing here parses markup.

export const find = id => document.getElementById(id);

/** `attributes`: functions are listeners, booleans are present or absent, null leaves out. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter(child => child !== null && child !== undefined));
  return element;
}

/** To another page of this one: `["images", id]`, and what narrows it. */
export const address = (steps, query = {}) => {
  const path = steps.map(encodeURIComponent).join("/");
  const asked = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  return `#/${path}${asked.size ? `?${asked}` : ""}`;
};

export const link = (steps, ...children) => make("a", { href: address(steps) }, ...children);

export const soft = (text, tag = "div") => make(tag, { class: "soft" }, text);

/** How often each status asks for attention; what is not named here is work under way. */
const TONES = {
  READY: "good", RUNNING: "good", DEPLOYED: "good", LOADED: "good", COMPLETED: "good",
  ACTIVE: "good", DELIVERED: "good", DONE: "good",
  FAILED: "bad", LOST: "bad", DEAD: "bad", error: "bad",
  UNHEALTHY: "warn", RESTARTING: "warn", NOT_READY: "warn", DEGRADED: "warn", warning: "warn",
  STOPPED: "idle", DISABLED: "idle", SCALED_DOWN: "idle", DELETED: "idle", info: "idle",
};

export const badge = (status, text = status) =>
  make("span", { class: `badge ${TONES[status] ?? "busy"}` }, text);

export function progress(label, percentage) {
  const bar = make("progress", { max: 100, value: percentage, "aria-label": label });
  return make("div", { class: "progress" }, bar, make("span", {}, `${percentage} %`));
}

export const code = text => make("code", {}, text);

export const pairs = named => Object.entries(named).map(([name, value]) =>
  make("div", {}, code(`${name}=${value}`)));

export function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

export function bytes(count) {
  if (count === null || count === undefined) return "";
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (count < 1024) return `${unit === "B" ? count : count.toFixed(1)} ${unit}`;
    count /= 1024;
  }
  return `${count.toFixed(1)} TiB`;
}

/** A time that says how long ago it was, and goes on saying it. */
export function age(time) {
  const element = make("time", { datetime: time, title: new Date(time).toLocaleString() });
  element.dataset.age = "";
  element.append(since(time));
  return element;
}

export const clock = time => make(
  "time", { datetime: time, title: new Date(time).toLocaleString() },
  new Date(time).toLocaleTimeString([], { hour12: false }));

function since(time) {
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(time)) / 1000));
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]])
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  return `${seconds} s ago`;
}

setInterval(() => {
  if (document.hidden) return;
  for (const element of document.querySelectorAll("time[data-age]")) {
    const text = since(element.dateTime);
    if (element.textContent !== text) element.textContent = text;
  }
}, 1000);
