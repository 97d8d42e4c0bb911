// Requests. An answer that the server refuses is told apart from a server that cannot be reached.

export class Refusal extends Error {}

const RETRY_MS = [500, 1000, 2000, 4000, 8000, 15000];
let failures = 0;

export const ask = (path) => request(path, {});

export const call = (path, body = {}) =>
  request(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

async function request(path, options) {
  const reply = await fetch(path, { credentials: "same-origin", ...options });
  if (reply.status === 401) {
    location.assign("/login");
    return new Promise(() => {});
  }
  if (reply.status >= 500 || reply.status === 429) throw new Error(`server answered ${reply.status}`);
  const data = await reply.json();
  if (!reply.ok) throw new Refusal(typeof data.detail === "string" ? data.detail : "not accepted");
  failures = 0;
  return data;
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
