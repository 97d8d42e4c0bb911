"""The chat template: the one text form of a conversation, frozen for a run. Knows no ids and no model.

A base without a template gets `TEMPLATE`; a base's own template is kept, with its clock stopped: some write
today's date into the prompt, and a policy would then be trained, scored and served on different prompts.
"""

import hashlib
import json
from typing import Any

from workbench.run.errors import WorkbenchError

TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] }}{{ '\\n\\n' }}"
    "{% elif message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\\nAssistant:' }}"
    "{% else %}{% generation %}{{ ' ' + message['content'] + eos_token }}{% endgeneration %}"
    "{% if not loop.last %}{{ '\\n' }}{% endif %}"
    "{% endif %}"
    "{% endfor %}"
)
"""`<s>SYSTEM\\n\\nUser: …\\nAssistant: …</s>\\nUser: …`; a prompt ends in `Assistant:`."""

_STOPPED_CLOCK = "{%- macro strftime_now(format) -%}26 Jul 2024{%- endmacro -%}"
"""Hides the `strftime_now` that transformers gives to templates; the date is Llama 3's own without a clock."""

_PADDING = ("<unk>", "<pad>", "<|pad|>", "[PAD]", "<|finetune_right_pad_id|>", "<|fim_pad|>")
"""Tokens that may stand for padding, where the vocabulary has them; no token is ever added."""


def ensure_template(tokenizer: Any) -> None:
    """Give the tokenizer a frozen chat template and a pad token that is not the end of a response.

    Padding with the end token would hide the real end from the loss and from a reward model.

    Raises:
        WorkbenchError: the tokenizer has no end token, or nothing that can serve as padding.
    """
    base = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
    if tokenizer.eos_token is None:
        raise WorkbenchError(
            f"tokenizer of {base}",
            "it has no end-of-sequence token, so no response could end",
            expected="an `eos_token` in tokenizer_config.json",
            remedy="name the base's end token there",
        )
    if isinstance(tokenizer.chat_template, dict):
        tokenizer.chat_template = tokenizer.chat_template.get("default")
    if not tokenizer.chat_template:
        tokenizer.chat_template = TEMPLATE
    elif "strftime_now" in tokenizer.chat_template and _STOPPED_CLOCK not in tokenizer.chat_template:
        tokenizer.chat_template = _STOPPED_CLOCK + tokenizer.chat_template
    if tokenizer.pad_token is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.pad_token = _padding_token(tokenizer, base)


def _padding_token(tokenizer: Any, base: str) -> str:
    vocabulary = tokenizer.get_vocab()
    for token in (tokenizer.unk_token, *_PADDING):
        if token is not None and token in vocabulary and vocabulary[token] != tokenizer.eos_token_id:
            return str(token)
    raise WorkbenchError(
        f"tokenizer of {base}",
        f"it has no padding token, no `<unk>` to pad with, and {tokenizer.eos_token!r} ends responses",
        expected="a `pad_token` other than the end token",
        remedy="set `pad_token` in the base's tokenizer_config.json to a token that no text uses",
    )


def template_hash(tokenizer: Any) -> str:
    """SHA-256 (hex) of the template and the special tokens: runs with the same hash read the same prompts."""
    parts = [tokenizer.chat_template, tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()
