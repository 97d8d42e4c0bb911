// Requests: plain POSTs to the card's server functions. Gradio's own `server.name()` is not used: for every request that
// fails it returns undefined, and an answer that the server refuses, a login that has ended, an error of the server and
// a server that cannot be reached must be told apart.

// The server has read the request and says no: it is not sent again.
export class Refusal extends Error {}

// To be sent again. Status 401, 429 or 5xx; 0: there was no reply.
export class Failure extends Error {
  constructor(status) {
    super(`status ${status}`);
    this.status = status;
  }
}

const RETRY_MS = [500, 1000, 2000, 4000, 8000, 15000];
const NO_SESSION = "card"; // Gradio asks for the name of a session; nothing is kept in it
const HEADERS = { "Content-Type": "application/json" };
let failures = 0;
let host = null;
let login = null;

// `given`: address, and key of the component; `page`: of the login, if there is one.
export function connect(given, page) {
  host = given;
  login = page;
}

export const call = async (name, body = {}) => read(await post(name, body));

// Of the lead's pages: an address of their own, with a body or without one.
export async function ask(path, body) {
  const sent = body && { method: "POST", headers: HEADERS, body: JSON.stringify(body) };
  return read(await reach(path, sent));
}

async function read(reply) {
  if (reply.status === 401 && login) {
    location.assign(login);
    return new Promise(() => {});
  }
  if (reply.status === 401 || reply.status === 429 || reply.status >= 500) throw new Failure(reply.status);
  const data = await reply.json();
  if (!reply.ok) throw new Refusal(typeof data.detail === "string" ? data.detail : "not accepted");
  failures = 0;
  return data;
}

function post(name, data) {
  const body = { data, component_id: host.component, fn_name: `label_${name}`, session_hash: NO_SESSION };
  return reach(`${host.address}?${name}`, { method: "POST", headers: HEADERS, body: JSON.stringify(body) });
}

async function reach(address, options) {
  try {
    return await fetch(address, { credentials: "same-origin", ...options });
  } catch {
    throw new Failure(0);
  }
}

// Until the server can be reached again, or another try is worth while.
export function pause() {
  const wait = RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)];
  return new Promise((resolve) => {
    const timer = setTimeout(done, wait);
    function done() {
      clearTimeout(timer);
      removeEventListener("online", done);
      resolve();
    }
    addEventListener("online", done);
  });
}
