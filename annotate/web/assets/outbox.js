// Answers on their way. Each waits in localStorage under a key of its own until the server has acknowledged it: sent
// twice it counts once, and it survives a reload and a server that is away.

import * as kept from "./kept.js";
import { Refusal, call, pause } from "./server.js";

let box = "outbox.";
let sending = null;
let last = null;
let counter = 0;
let deliver = call;
let report = { failed() {}, refused() {}, changed() {}, stored() {} };

// `by`: sends one answer, as `call` does.
export function open(name, reports, by = call) {
  box = `outbox.${name}.`;
  deliver = by;
  report = reports;
}

export const waiting = () => kept.names(box).map((name) => ({ name, ...kept.read(name) })).filter((entry) => entry.path);

// Throws where the browser cannot keep it.
export function put(path, body, about) {
  const at = String(Date.now()).padStart(15, "0");
  kept.write(`${box}${at}.${String(counter++).padStart(6, "0")}.${body.client_key}`, { path, body, about });
  report.changed();
}

// Sends what waits, in order; resolves with the reply to the last one, or null where nothing was sent.
export function send() {
  sending = sending || work().finally(() => (sending = null));
  return sending;
}

async function work() {
  last = null;
  for (let entries = waiting(); entries.length; entries = waiting()) {
    const { name, path, body } = entries[0];
    try {
      last = { path, body, reply: await deliver(path, body) };
      report.stored(last);
    } catch (error) {
      if (!(error instanceof Refusal)) {
        report.failed(error);
        await pause();
        continue;
      }
      last = null;
      report.refused(error.message, path, body);
    }
    kept.remove(name);
    report.changed();
  }
  return last;
}
