// Calls of the HTTP API, with the token of this tab.

const ROOT = new URL("../yard/v1/", import.meta.url);
const KEY = "modelyard.token";

/** A refusal as the server worded it; status 0 when there was no answer at all. */
export class Problem extends Error {
  constructor(status, { detail, title, code, errors }) {
    super(detail || title || `The server answered ${status}.`);
    Object.assign(this, { status, code, errors: errors ?? [] });
  }

  get isRefusal() {
    return this.status === 401 || this.status === 403;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: text => sessionStorage.setItem(KEY, text),
  forget: () => sessionStorage.removeItem(KEY),

  /** Takes `#token=…` out of the address, so that neither history nor a shared link has it. */
  fromAddress() {
    const given = new URLSearchParams(location.hash.slice(1)).get("token");
    if (given === null) return false;
    history.replaceState(null, "", location.pathname + location.search);
    token.set(given.trim());
    return true;
  },
};

let onUnauthorised = () => {};

/** `listener` hears when the server does not accept the token (any more). */
export const whenUnauthorised = listener => { onUnauthorised = listener; };

/** The answer itself; its body is still to be read. Throws Problem. */
export async function open(path, { method = "GET", query = {}, headers = {}, body, signal } = {}) {
  const sent = token.get();
  const answer = await send(new URL(path, ROOT), query, {
    method, signal, cache: "no-cache", credentials: "omit",
    headers: { Authorization: `Bearer ${sent}`, ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (answer.ok) return answer;
  if (answer.status === 401 && sent === token.get()) onUnauthorised();
  throw new Problem(answer.status, await answer.json().catch(() => ({ title: answer.statusText })));
}

/** The decoded answer, or null when it is empty. Throws Problem. */
export async function call(path, options = {}) {
  const headers = { ...options.headers };
  if (options.body !== undefined) headers["Content-Type"] = "application/json";
  if (options.key) headers["Idempotency-Key"] = options.key;
  const answer = await open(path, { ...options, headers });
  return answer.status === 204 ? null : answer.json();
}

/** The newest `limit` items of a list, and whether there are more. */
export async function newest(path, limit, query = {}) {
  const items = [];
  let cursor = null;
  do {
    const wanted = { ...query, limit: Math.min(100, limit - items.length), cursor };
    const page = await call(path, { query: wanted });
    if (Array.isArray(page)) return { items: page.slice(0, limit), more: page.length > limit };
    items.push(...page.items);
    cursor = page.next ?? null; // lists that are never long have no pages
  } while (cursor !== null && items.length < limit);
  return { items, more: cursor !== null };
}

/** For one wish: a repeat of the same wish is carried out once. */
export function newKey() {
  // randomUUID would need a secure context, which plain HTTP on a local network is not.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, byte => byte.toString(16).padStart(2, "0")).join("");
}

async function send(url, query, options) {
  for (const [name, value] of Object.entries(query))
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "The server does not answer." });
  }
}
