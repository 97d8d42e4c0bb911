"""Question: what does the server gain over answering one request at a time, and how long do clients wait for text?

A run is served by `python -m workbench serve`, and 16 clients at once stream answers to held-out prompts through the
official openai client, in a process of its own that shares the cores. The baseline is `generate` in this process, one
prompt at a time, with the same sampling: no server, no HTTP. All write the same number of tokens at most, at
temperature 1. On a machine with other work, several processes get more of it than one does. The ratio by CPU time (of
the server and its worker, against that of `generate`) does not depend on that, and leaves out the second core.

    python -m benchmarks.serve RUN --prompts tiny:prompts_heldout [--clients 16] [--requests 192] [--repeats 3]
"""

import argparse
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import openai
import psutil
import torch

from benchmarks.record import RESULTS, spread, write_result
from workbench.data.embedded import resolve_data
from workbench.data.readers import read_prompts
from workbench.data.records import Prompt
from workbench.data.tokenise import encode_prompt
from workbench.model.cpu.blocks import one_thread_per_op
from workbench.model.generate import generate
from workbench.model.open import open_runs

OUT = RESULTS / "serve.json"
START_SECONDS = 300


def main(argv: list[str] | None = None) -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--prompts", default="tiny:prompts_heldout")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=192, help="of each measurement")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer, at most")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    prompts = read_prompts(resolve_data(arguments.prompts))[: arguments.requests]
    rounds: list[dict[str, Any]] = []
    with open_server(arguments) as (url, server):
        ask(url, prompts, arguments)  # warm-up
        for _ in range(arguments.repeats):  # in turn, so that a busy machine slows all of them
            alone, alone_cpu = one_at_a_time(arguments, prompts)
            before = cpu_seconds(server)
            many = ask(url, prompts, arguments)
            many_cpu = (cpu_seconds(server) - before) / many["tokens"]
            rounds.append({"one": alone, "cpu_ratio": alone_cpu / many_cpu, **many})
    speeds = [row["tokens_per_second"] for row in rounds]
    ratios = [row["tokens_per_second"] / row["one"] for row in rounds]
    result = {
        "clients": arguments.clients,
        "tokens_per_second": float(np.median(speeds)),
        "ratio_to_one_at_a_time": float(np.median(ratios)),
        "first_token_p95_seconds": float(np.median([row["first_token_p95_seconds"] for row in rounds])),
        "ratio_by_cpu_time": float(np.median([row["cpu_ratio"] for row in rounds])),
        "repeats": {
            "tokens_per_second": spread(speeds),
            "one_at_a_time_tokens_per_second": spread([row["one"] for row in rounds]),
            "ratio_by_cpu_time": spread([row["cpu_ratio"] for row in rounds]),
            "ratio": spread(ratios),
            "first_token_p95_seconds": spread([row["first_token_p95_seconds"] for row in rounds]),
            "first_token_median_seconds": spread([row["first_token_median_seconds"] for row in rounds]),
        },
        "settings": {"requests": len(prompts), "tokens_at_most": arguments.tokens, "threads": torch.get_num_threads()},
    }
    write_result(arguments.out, result)


def cpu_seconds(process: psutil.Process) -> float:
    """What a process and those that it started have used so far."""
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(spent.user + spent.system for spent in times)


def one_at_a_time(arguments: argparse.Namespace, prompts: list[Prompt]) -> tuple[float, float]:
    """`generate`, one prompt after another: tokens per second, and CPU seconds per token."""
    roles = open_runs({"policy": arguments.run})
    rows = [encode_prompt(roles.tokenizer, prompt.prompt) for prompt in prompts]
    options: Any = {"max_new_tokens": arguments.tokens, "temperature": 1.0}
    generate(roles, "policy", rows[:1], seed=0, **options)
    began, before, tokens = time.perf_counter(), time.process_time(), 0
    with one_thread_per_op():  # the faster way for a small model
        for seed, row in enumerate(rows):
            tokens += len(generate(roles, "policy", [row], seed=seed, **options).lists()[0])
    return tokens / (time.perf_counter() - began), (time.process_time() - before) / tokens


@contextmanager
def open_server(arguments: argparse.Namespace) -> Iterator[tuple[str, psutil.Process]]:
    """The server, until the end of the block: its address and its process."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    words = ["--port", str(port), "--at-once", str(arguments.clients), "--engine", "own"]
    command = [sys.executable, "-m", "workbench", "serve", str(arguments.run), *words]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            for _ in range(START_SECONDS * 10):
                if process.poll() is not None:
                    raise RuntimeError("the server ended at its start")
                try:
                    urllib.request.urlopen(f"{url}/health").close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield url, psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)


def ask(url: str, prompts: list[Prompt], arguments: argparse.Namespace) -> dict[str, Any]:
    """What clients in a process of their own measure."""
    with get_context("fork").Pool(1) as pool:
        return pool.apply(ask_all, (url, prompts, arguments))


def ask_all(url: str, prompts: list[Prompt], arguments: argparse.Namespace) -> dict[str, Any]:
    """Stream an answer to every prompt, `clients` at one time."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    model = client.models.list().data[0].id

    def answer(job: tuple[int, Prompt]) -> tuple[float, int]:
        seed, prompt = job
        messages: Any = [message.model_dump() for message in prompt.prompt]
        began, first, tokens = time.perf_counter(), 0.0, 0
        for chunk in client.chat.completions.create(
            model=model,
            messages=messages,
            seed=seed,
            max_tokens=arguments.tokens,
            stream=True,
            stream_options={"include_usage": True},
        ):
            first = first or time.perf_counter() - began
            tokens = chunk.usage.completion_tokens if chunk.usage else tokens
        return first, tokens

    with ThreadPoolExecutor(arguments.clients) as pool:
        began = time.perf_counter()
        answers = list(pool.map(answer, enumerate(prompts)))
        seconds = time.perf_counter() - began
    firsts = [first for first, _ in answers]
    total = sum(tokens for _, tokens in answers)
    return {
        "tokens": total,
        "tokens_per_second": total / seconds,
        "first_token_p95_seconds": float(np.quantile(firsts, 0.95)),
        "first_token_median_seconds": float(np.median(firsts)),
    }


if __name__ == "__main__":
    main()
