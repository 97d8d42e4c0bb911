"""The chat template, which is frozen for a run. Knows no ids and no model.

A base without a template gets `TEMPLATE`. A base's own template is kept, but with a fixed date: some write today's
date into the prompt, and a policy would then be trained, scored and served on different prompts.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from typing import Any

from workbench.run.errors import WorkbenchError

_log = logging.getLogger(__name__)

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
"""`<s>SYSTEM\\n\\nUser: …\\nAssistant: …</s>\\nUser: …`; a prompt ends with `Assistant:`."""

_FIXED_DATE = "{%- macro strftime_now(format) -%}26 Jul 2024{%- endmacro -%}"
"""Overrides the `strftime_now` of transformers; the date is the default of Llama 3's template."""

_PADDING = ("<unk>", "<pad>", "<|pad|>", "[PAD]", "<|finetune_right_pad_id|>", "<|fim_pad|>")
"""Tokens to pad with, if the vocabulary has one of them; no token is ever added."""

_ENDS = "response_ends"
"""Name of the attribute of a tokenizer that holds the ids that end a response."""


def end_ids(tokenizer: Any) -> tuple[int, ...]:
    """Every id that ends a sampled response; first the tokenizer's EOS, which ends the responses to train on."""
    return tuple(dict.fromkeys([int(tokenizer.eos_token_id), *getattr(tokenizer, _ENDS, ())]))


def ensure_template(
    tokenizer: Any, *, rows: int | None = None, pad_token: str | None = None, ends: Sequence[int] = ()
) -> None:
    """Set the tokenizer's frozen chat template, its end tokens, and a pad token that does not end a response.

    If the pad token were an end token, the loss and a reward model could not see where a response really ends.

    Args:
        tokenizer: changed in place.
        rows: number of rows of the base's embedding table; None: unknown, and ids are not checked.
        pad_token: the user's choice; None: the tokenizer's own, or another token that does not end a response.
        ends: ids that end a sampled response, in addition to the tokenizer's EOS. Ordinary tokens among them are
            ignored: the default of an architecture may name one.

    Raises:
        WorkbenchError: the tokenizer has no end token, no token to pad with, or ids without a row.
    """
    base = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
    if tokenizer.eos_token is None:
        raise WorkbenchError(
            f"tokenizer of {base}",
            "it has no end-of-sequence token, so responses could not end",
            expected="an `eos_token` in tokenizer_config.json",
            remedy="add the base's end token to that file",
        )
    if isinstance(tokenizer.chat_template, dict):
        tokenizer.chat_template = tokenizer.chat_template.get("default")
    if not tokenizer.chat_template:
        tokenizer.chat_template = TEMPLATE
    elif "strftime_now" in tokenizer.chat_template and _FIXED_DATE not in tokenizer.chat_template:
        tokenizer.chat_template = _FIXED_DATE + tokenizer.chat_template
    special = _special_tokens(tokenizer)
    setattr(tokenizer, _ENDS, tuple(end for end in ends if end in special and (rows is None or end < rows)))
    tokenizer.pad_token = _padding_token(tokenizer, special, base, rows=rows, wanted=pad_token)
    if rows is not None:
        _check_ids(tokenizer, special, rows, base)


def _special_tokens(tokenizer: Any) -> dict[int, str]:
    added = {number: str(token) for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return {**dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True)), **added}


def _padding_token(
    tokenizer: Any, special: dict[int, str], base: str, *, rows: int | None, wanted: str | None = None
) -> str:
    """The token to pad with. Masks say which tokens count, so any token that never ends a row is safe."""
    vocabulary, ends = tokenizer.get_vocab(), end_ids(tokenizer)

    def fits(token: str | None) -> bool:
        number = vocabulary.get(token)
        return number is not None and number not in ends and (rows is None or number < rows)

    if wanted is not None and not fits(wanted):
        number = vocabulary.get(wanted)
        problem = "is not in its vocabulary" if number is None else f"has id {number}"
        raise WorkbenchError(
            "model.pad_token",
            f"{wanted!r} {problem}",
            expected=f"a token of base {base} that does not end a response"
            + (f", with an id below the {rows} rows of its embeddings" if rows else ""),
            remedy="remove model.pad_token, or name another token",
        )
    own = tokenizer.pad_token
    unused = [t for t in special.values() if t != tokenizer.bos_token and t not in tokenizer.chat_template]
    reserved = [token for token in unused if "reserved" in token]
    candidates = (wanted, own, tokenizer.unk_token, *_PADDING, *reserved, *unused)
    # Last, tokens of the template: they begin turns and are never at the end of a row.
    candidates += (tokenizer.bos_token, *special.values())
    found = next((token for token in candidates if fits(token)), None)
    if found is None:
        raise WorkbenchError(
            f"tokenizer of {base}",
            f"it has no padding token and no other special token than {tokenizer.eos_token!r}, which ends responses",
            expected="a token that does not end a response",
            remedy="model.pad_token=TOKEN, a token of its vocabulary that no text uses",
        )
    beyond = rows is not None and own is not None and vocabulary.get(own, -1) >= rows
    if beyond:
        _log.warning(
            "base %s: its pad token %r has token id %d, and its embeddings have %d rows: padding with %r",
            *(base, own, vocabulary[own], rows, found),
        )
    return found


def _check_ids(tokenizer: Any, special: dict[int, str], rows: int, base: str) -> None:
    """Refuse ids without a row, except special tokens that neither text nor template can produce."""
    beyond = {number: token for token, number in tokenizer.get_vocab().items() if number >= rows}
    used = {
        number: token
        for number, token in beyond.items()
        if number not in special
        or number in (tokenizer.bos_token_id, tokenizer.eos_token_id)
        or token in tokenizer.chat_template
    }
    if used:
        first = min(used)
        raise WorkbenchError(
            f"base {base}",
            f"its tokenizer has {max(beyond) + 1} tokens, among them {used[first]!r} with token id {first}, "
            f"but its embeddings have {rows} rows",
            expected=f"token ids below {rows}",
            remedy="load the base in transformers, model.resize_token_embeddings(len(tokenizer)), and save both; "
            "or use the tokenizer that belongs to the base",
        )


def template_hash(tokenizer: Any) -> str:
    """SHA-256 (hex) of the template and the special tokens: runs with the same hash see the same prompts."""
    parts = [tokenizer.chat_template, tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()
