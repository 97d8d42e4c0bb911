"""Claim: Adam's eps of 1e-5, right for small models, damps the LoRA gradients of a 7B; 1e-8 does not.

The size of one entry of a gradient of norm g over n parameters is about g/√n, and a LoRA adapter of a 7B has 40 million
entries. Measured on random weights of full width with few layers, with an adapter of the size that supervised tuning
leaves: the policy gradient of whitened random advantages, which is the noise that Adam's second moment sees. It falls
with the square root of the tokens, so it is also given for a minibatch of configs/llama-7b/ppo.yaml, 77 000 tokens.

    python -m benchmarks.adam_eps [--layers 2] [--tokens 256]
    python -m benchmarks.adam_eps --tiny
"""

import argparse
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from torch import Tensor

from benchmarks.record import RESULTS, write_result
from ppo.loss import policy_loss
from workbench.doctor.measure import llama_config
from workbench.doctor.memory import Shape
from workbench.doctor.random_base import write_random_base
from workbench.doctor.shapes import KNOWN
from workbench.model.adapters import lora_config
from workbench.model.base import BaseSpec, load_base, load_tokenizer
from workbench.model.logprobs import token_logprobs
from workbench.model.roles import Roles
from workbench.run.command_line import run_main

OUT = RESULTS / "adam_eps.json"
TINY = Shape(512, 64, 128, 2, 2, 2, 32, tied=False)
EPS = (1e-5, 1e-6, 1e-7, 1e-8)
TUNED = 2e-3
"""Deviation of B's entries after supervised tuning: some hundred Adam steps of 2e-4 in changing directions."""
MINIBATCH = 256 * 300
"""Tokens of a minibatch of configs/llama-7b/ppo.yaml."""


def main(argv: list[str]) -> int:
    """Measure and write benchmarks/results/adam_eps.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a small Llama")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=256, help="response tokens of the gradient")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    shape = TINY if arguments.tiny else replace(KNOWN["llama-7b"], layers=arguments.layers)
    with tempfile.TemporaryDirectory() as name:
        roles = open_policy(Path(name), shape)
        gradients = {tokens: gradient(roles, tokens) for tokens in (arguments.tokens // 4, arguments.tokens)}
    few, many = (float(gradients[tokens].square().mean().sqrt()) for tokens in gradients)
    scale = math.sqrt(arguments.tokens / MINIBATCH)
    content: dict[str, Any] = {
        "claim": "eps = 1e-5 damps the steps of a 7B's LoRA weights; 1e-8 does not",
        "shape": vars(shape),
        "parameters": len(gradients[arguments.tokens]),
        "root_mean_square": dict(zip(gradients, (few, many), strict=True)),
        "fall_over_square_root_of_tokens": few / many / 2,
        "root_mean_square_of_a_minibatch": many * scale,
        "share_of_the_step_that_is_left": {
            str(eps): {
                "these tokens": kept_share(gradients[arguments.tokens], eps),
                "a minibatch": kept_share(gradients[arguments.tokens] * scale, eps),
            }
            for eps in EPS
        },
    }
    write_result(arguments.out, content)
    return 0


def open_policy(folder: Path, shape: Shape) -> Roles:
    """A policy of rank 16 on random weights."""
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    base = write_random_base(folder / "base", llama_config(shape), dtype=dtype)
    tokenizer = load_tokenizer(str(base))
    model = load_base(BaseSpec(str(base), None, "nf4", "auto"), tokenizer)
    roles = Roles(get_peft_model(model, lora_config(16, 32, 0.0), adapter_name="policy"), tokenizer)
    generator = torch.Generator().manual_seed(0)
    for name, weight in roles.adapter_state("policy").items():
        if "lora_B" in name:
            weight.copy_(torch.randn(weight.shape, generator=generator) * TUNED)
    return roles


def gradient(roles: Roles, tokens: int, length: int = 64) -> Tensor:
    """The policy gradient (n,) of `tokens` response tokens with whitened random advantages."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 250, (max(1, tokens // length), length + 1), generator=generator).to(roles.device)
    mask = torch.ones_like(ids, dtype=torch.bool)
    predicting = mask.clone()
    predicting[:, -1] = False
    advantages = torch.randn(len(ids), length, generator=generator).to(roles.device)
    real = torch.ones_like(advantages, dtype=torch.bool)
    for row in range(len(ids)):
        part = slice(row, row + 1)
        with roles.use("policy", train=True) as forward:
            hidden = forward(ids[part], mask[part], predicting[part])
            logprobs, _ = token_logprobs(hidden, roles.lm_head, ids[part, 1:].flatten(), temperature=1.0)
            new = logprobs.unsqueeze(0)
            loss, _ = policy_loss(
                new, new.detach(), advantages[part], real[part], clip_range=0.2, tokens=advantages.numel()
            )
            loss.backward()
    whole = torch.cat([weight.grad.flatten() for weight in roles.parameters("policy") if weight.grad is not None])
    for weight in roles.parameters("policy"):
        weight.grad = None
    return whole


def kept_share(gradients: Tensor, eps: float) -> float:
    """Mean over entries of |g| / (|g| + eps): Adam's step, over the step without eps, where √v is about |g|."""
    return float((gradients.abs() / (gradients.abs() + eps)).mean())


if __name__ == "__main__":
    run_main(main)
