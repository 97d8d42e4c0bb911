"""The command that starts vLLM with the adapters of some runs. Tested as a list of words, not yet against vLLM.

Source: vLLM's documentation of `vllm serve` (LoRA adapters, chat template, VLLM_API_KEY).
"""

import json
import os
from collections.abc import Sequence
from typing import Any

from workbench.data.base_files import base_folder
from workbench.run.errors import WorkbenchError
from workbench.run.sources import Source
from workbench.serve.keys import Keys

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values of `--max-lora-rank`."""


def vllm_command(sources: Sequence[Source], names: Sequence[str], host: str, port: int) -> list[str]:
    """The words of the command.

    Args:
        sources: policies on one base.
        names: of the models, one per source.

    Raises:
        WorkbenchError: an adapter that vLLM cannot serve.
    """
    base, adapter = sources[0].run.record()["base"], sources[0].adapter.resolve()
    rank = max(map(_rank, sources))
    words = ["vllm", "serve", str(base_folder(base["name"], base.get("revision")) or base["name"])]
    words += ["--host", host, "--port", str(port), "--tokenizer", str(adapter)]
    words += ["--chat-template", str(adapter / "chat_template.jinja")]
    if base["quantise"] == "nf4":
        words += ["--quantization", "bitsandbytes"]
    words += ["--enable-lora", "--max-loras", str(len(sources)), "--max-lora-rank", str(rank), "--lora-modules"]
    return [*words, *(f"{name}={source.adapter.resolve()}" for name, source in zip(names, sources, strict=True))]


def vllm_environment(keys: Keys) -> dict[str, str]:
    """The environment: the key is not among the words, which every user of the machine can read.

    Raises:
        WorkbenchError: there are several keys.
    """
    if len(keys.plain) > 1:
        raise WorkbenchError("--keys", f"holds {len(keys.plain)} keys", expected="one for vLLM", remedy="--engine own")
    key = next(iter(keys.plain.values()), None)
    return {**os.environ, **({"VLLM_API_KEY": key} if key else {})}


def _rank(source: Source) -> int:
    """The smallest of `RANKS` that an adapter fits into."""
    config: dict[str, Any] = json.loads((source.adapter / "adapter_config.json").read_text(encoding="utf-8"))
    if source.run.record()["phase"] == "reward" or config["peft_type"] != "LORA" or config.get("use_dora"):
        raise WorkbenchError(
            source.name, "is not a policy with a plain LoRA adapter", expected="one for vLLM", remedy="--engine own"
        )
    fitting = [rank for rank in RANKS if rank >= config["r"]]
    if not fitting:
        raise WorkbenchError(source.name, f"has rank {config['r']}", expected=f"at most {RANKS[-1]} for vLLM")
    return fitting[0]
