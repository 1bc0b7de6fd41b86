// Asks the admin API. The token is kept in this tab alone, and is sent as a header: there is no
// cookie that another page could use.

const KEY = "pixtoll-console";

let session = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
let signedOut = () => {};

// Calls `then` when the server refuses the token.
export function onSignOut(then) {
  signedOut = then;
}

// Who is signed in; null: nobody.
export function operator() {
  return session?.name ?? null;
}

export async function signIn(name, token) {
  session = { name, token };
  try {
    await get("/cases?limit=1");
  } catch (error) {
    session = null;
    throw error;
  }
  sessionStorage.setItem(KEY, JSON.stringify(session));
}

export function signOut(message = "") {
  session = null;
  sessionStorage.removeItem(KEY);
  signedOut(message);
}

export class ApiError extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

async function send(method, path, body) {
  let response;
  try {
    response = await fetch(`/admin/api${path}`, {
      method,
      headers: { Authorization: `Bearer ${session.token}`, ...(body && { "Content-Type": "application/json" }) },
      body: body && JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
  } catch {
    throw new ApiError("The server does not answer. Is it running, and is the tunnel open?", 0, "unreachable");
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  const error = new ApiError(told.message ?? `The server answered ${response.status}.`, response.status, told.error);
  if (response.status === 401 && sessionStorage.getItem(KEY)) signOut("The token is not accepted any more.");
  throw error;
}

export async function get(path) {
  return (await send("GET", path)).json();
}

// Carries out an act. The name of the operator goes into the log.
export async function act(path, reason, more = {}) {
  return (await send("POST", path, { reason, as: session.name, ...more })).json();
}

// The content of an image. The server writes into the log who looked and why.
export async function view(id, reason) {
  return (await send("POST", `/images/${id}/view`, { reason, as: session.name })).blob();
}

// What `/readyz` and `/metrics` of the same listener tell. They need no token.
export async function ready() {
  const response = await fetch("/readyz", { cache: "no-store" });
  return response.json();
}

// The metrics by name: each a list of labels and value. Null: the server counts nothing.
export async function metrics() {
  const response = await fetch("/metrics", { cache: "no-store" });
  if (!response.ok) return null;
  const found = new Map();
  for (const line of (await response.text()).split("\n")) {
    const parts = /^pixtoll_(\w+?)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!parts) continue;
    const labels = Object.fromEntries([...(parts[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map((it) => [it[1], it[2]]));
    if (!found.has(parts[1])) found.set(parts[1], []);
    found.get(parts[1]).push({ labels, value: Number(parts[3]) });
  }
  return found;
}
