"""Claim: the memory of log-probabilities in chunks does not grow with vocabulary × time, for at most half more time.

Each case runs forward and backward in a process of its own, whose resident memory beyond its inputs is read. Compared
with the logits held whole: `log_softmax(hidden @ head.T)` and its gradient by autograd.

    python -m benchmarks.logprob_memory [--tiny]
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.record import RESULTS, spread, write_result
from workbench.model.logprobs import token_logprobs
from workbench.run.command_line import run_main
from workbench.run.peak import peak_resident_bytes

OUT = RESULTS / "logprob_memory.json"
HIDDEN, CHUNK = 512, 256
WAYS = ("chunked", "whole")


def main(argv: list[str]) -> int:
    """Measure every case, or be the child that measures one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="small cases, seconds in all")
    parser.add_argument("--out", type=Path, default=OUT, help="result (default: %(default)s)")
    parser.add_argument("--case", nargs=3, metavar=("WAY", "TOKENS", "VOCABULARY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.case:
        way, tokens, vocabulary = arguments.case
        print(json.dumps(one_case(way, int(tokens), int(vocabulary))))
        return 0
    tokens, vocabularies = ((1024, 2048), (8192,)) if arguments.tiny else ((1024, 2048, 4096), (8192, 32_768))
    cases = [measure(n, v) for v in vocabularies for n in tokens]
    content = {
        "claim": "peak independent of vocabulary × time; at most 1.5 times the time: 3 matrix products instead of 2",
        "sizes": {"hidden": HIDDEN, "chunk": CHUNK, "threads": 1},
        "cases": cases,
        "time": compare_time(tokens[0], vocabularies[-1], repeats=2 if arguments.tiny else 7),
    }
    write_result(arguments.out, content)
    return 0


def measure(tokens: int, vocabulary: int) -> dict[str, Any]:
    """Both ways in processes of their own: MiB beyond the inputs."""
    case: dict[str, Any] = {"tokens": tokens, "vocabulary": vocabulary}
    for way in WAYS:
        case[f"{way}_mib"] = measure_one(way, tokens, vocabulary)
    return case


def measure_one(way: str, tokens: int, vocabulary: int) -> float:
    """One way in a process of its own: MiB beyond the inputs."""
    command = [sys.executable, "-m", "benchmarks.logprob_memory", "--case", way, str(tokens), str(vocabulary)]
    # Blocks of 64 KiB and more then go back to the system when they are freed, so that resident memory is what is held.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["mib"])


def one_case(way: str, tokens: int, vocabulary: int) -> dict[str, float]:
    """Memory that forward and backward take beyond what the process held before."""
    torch.set_num_threads(1)
    hidden, head, targets = inputs(tokens, vocabulary)
    step(way, *inputs(8, 16))  # what torch allocates once
    before = peak_resident_bytes()
    step(way, hidden, head, targets)
    return {"mib": (peak_resident_bytes() - before) / 2**20}


def compare_time(tokens: int, vocabulary: int, *, repeats: int) -> dict[str, Any]:
    """Both ways in turns in this process."""
    torch.set_num_threads(1)
    given = inputs(tokens, vocabulary)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for repeat in range(repeats + 1):
        for way in WAYS:
            started = time.perf_counter()
            step(way, *given)
            if repeat:  # the first of each warms up
                seconds[way].append(time.perf_counter() - started)
    ratios = [a / b for a, b in zip(seconds["chunked"], seconds["whole"], strict=True)]
    return {
        "tokens": tokens,
        "vocabulary": vocabulary,
        "chunked_over_whole": spread(ratios),
        **{f"{way}_seconds": spread(seconds[way]) for way in WAYS},
    }


def inputs(tokens: int, vocabulary: int) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states that need gradients, a frozen head, targets."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, HIDDEN, generator=generator)
    head = torch.randn(vocabulary, HIDDEN, generator=generator).mul_(HIDDEN**-0.5)
    return hidden.requires_grad_(), head, torch.randint(vocabulary, (tokens,), generator=generator)


def step(way: str, hidden: Tensor, head: Tensor, targets: Tensor) -> None:
    """Log-probabilities and entropies, and the gradient of both."""
    hidden.grad = None
    if way == "chunked":
        logprobs, entropy = token_logprobs(hidden, head, targets, chunk=CHUNK)
    else:
        log_p = torch.log_softmax(hidden @ head.T, dim=-1)
        logprobs = log_p.gather(1, targets.unsqueeze(1)).squeeze(1)
        entropy = -(log_p.exp() * log_p).sum(dim=-1)
    (logprobs.sum() + 0.01 * entropy.sum()).backward()


if __name__ == "__main__":
    run_main(main)
