// Requests to /api/v1/arena: replies in JSON, and answers as they are written (server-sent events).

import { Failure, Refusal } from "../server.js";

export async function call(name, body = {}) {
  return (await post(name, body)).json();
}

export async function* events(name, body, signal) {
  const reply = await post(name, body, signal);
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part.slice("data: ".length));
  }
}

async function post(name, body, signal) {
  const headers = { "Content-Type": "application/json" };
  const options = { method: "POST", credentials: "same-origin", headers, body: JSON.stringify(body), signal };
  let reply;
  try {
    reply = await fetch(`/api/v1/arena/${name}`, options);
  } catch {
    throw new Failure(0);
  }
  if (reply.status === 401) {
    location.assign("/login");
    return new Promise(() => {});
  }
  if (reply.status === 429 || reply.status >= 500) throw new Failure(reply.status);
  if (!reply.ok) {
    const { detail } = await reply.json();
    throw new Refusal(typeof detail === "string" ? detail : "not accepted");
  }
  return reply;
}
