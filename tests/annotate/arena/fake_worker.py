"""Speaks the worker's protocol without a model: `say N words` writes N words, `wait` writes until it is stopped.

A JSON list of texts has one for each run; a file of such lists, by question, may be the argument.
"""

import json
import queue
import sys
import threading
import time
from pathlib import Path


def say(line: dict) -> None:
    print(json.dumps(line), flush=True)


def main() -> None:
    control = Path(sys.argv[1])
    mood = control.read_text() if control.exists() else ""
    lines: queue.Queue = queue.Queue()
    threading.Thread(target=read, args=(lines,), daemon=True).start()
    lines.get()
    if mood == "fatal":
        return say({"fatal": "the base is missing"})
    known = json.loads(mood) if mood.startswith("{") else {}
    if mood == "die":
        raise SystemExit(3)
    say({"ready": True})
    jobs: dict[int, list] = {}  # job → its text so far, words left, run
    while True:
        try:
            line = lines.get(timeout=0.002)
        except queue.Empty:
            advance(jobs)
            continue
        if line is None:
            return
        take(jobs, line, known)


def read(lines: queue.Queue) -> None:
    for line in sys.stdin:
        lines.put(json.loads(line))
    lines.put(None)


def take(jobs: dict, line: dict, known: dict) -> None:
    if "stop" in line and "job" not in line:
        if line["stop"] in jobs:
            say({"job": line["stop"], "text": jobs.pop(line["stop"])[0], "ended": False})
        return
    asked = line["prompt"][-1]["content"]
    if asked.startswith("[") or asked in known:
        text = (known.get(asked) or json.loads(asked))[line["run"]]
        say({"job": line["job"], "keep": 0, "add": text})
        return say({"job": line["job"], "text": text, "ended": True})
    words = asked.split()
    if words[0] == "refuse":
        say({"job": line["job"], "error": "too long"})
    elif words[0] == "die":
        raise SystemExit(7)
    else:
        jobs[line["job"]] = ["", 10**9 if words[0] == "wait" else int(words[1]), line["run"]]


def advance(jobs: dict) -> None:
    for job, (text, left, run) in list(jobs.items()):
        if left == 0:
            say({"job": job, "text": text, "ended": True})
            del jobs[job]
        else:
            jobs[job] = [f"{text}r{run} ", left - 1, run]
            say({"job": job, "keep": len(text), "add": f"r{run} "})
    time.sleep(0.01)  # about the rate of a model; a flood of pieces would test the machine


if __name__ == "__main__":
    main()
