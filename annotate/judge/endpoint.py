"""A language model behind an OpenAI-compatible endpoint that compares two answers, each pair in both orders."""

import hashlib
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from annotate.config import JudgeSection, needed
from workbench.run.errors import WorkbenchError

KEY = "JUDGE_API_KEY"
"""The environment variable with the endpoint's key, if it asks for one."""
TIMEOUT = 120
"""Seconds per request."""
MAX_TOKENS = 16
_TIE = re.compile(r"\b(?:a )?tie\b", re.IGNORECASE)
_VERDICT = re.compile(r"\b(A|B|TIE)\b")


class Verdict(NamedTuple):
    """The two verdicts on a pair, as strengths in the item's order: −1 the first answer, 0 a tie, 1 the second."""

    as_given: int
    """With the first answer shown first."""
    swapped: int
    """With the second answer shown first."""

    @property
    def strength(self) -> int:
        """The verdict if both orders agree; a tie otherwise."""
        return self.as_given if self.as_given == self.swapped else 0


class Judge:
    """Asks the model.

    Raises:
        WorkbenchError: `judge.url` or `judge.model` is not set.
    """

    def __init__(self, section: JudgeSection) -> None:
        self.url = needed("judge.url", section.url).rstrip("/")
        self.model, self._prompt = needed("judge.model", section.model), section.prompt
        self.account = account_name(section)

    def compare(self, prompt: Sequence[Mapping[str, str]], first: str, second: str) -> Verdict | None:
        """The verdicts in both orders; None if a reply names no side.

        Raises:
            WorkbenchError: the endpoint cannot be reached, or it refuses.
        """
        as_given, swapped = self._ask(prompt, first, second), self._ask(prompt, second, first)
        return None if as_given is None or swapped is None else Verdict(as_given, -swapped)

    def _ask(self, prompt: Sequence[Mapping[str, str]], first: str, second: str) -> int | None:
        """−1 if the answer shown first is better, 1 if the other one is, 0 for a tie; None without a verdict."""
        shown = "\n".join(f"{message['role']}: {message['content']}" for message in prompt)
        parts = {"prompt": shown, "first": first, "second": second}
        text = re.sub(r"\{(prompt|first|second)\}", lambda match: parts[match.group(1)], self._prompt)
        reply = self._post({"messages": [{"role": "user", "content": text}]})
        try:
            content = reply["choices"][0]["message"]["content"] or ""
        except (KeyError, IndexError, TypeError):
            raise WorkbenchError(self.url, f"replied {str(reply)[:80]}", expected="a chat completion") from None
        return verdict_of(content)

    def _post(self, body: Mapping[str, Any]) -> Any:
        body = {"model": self.model, "temperature": 0, "max_tokens": MAX_TOKENS, **body}
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self.url}/chat/completions", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            problem = f"refused with status {error.code}: {error.read(200).decode(errors='replace')}"
        except (OSError, ValueError) as error:
            problem = f"cannot be asked: {error}"
        raise WorkbenchError(
            self.url, problem, expected="an OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1", remedy=KEY
        )


def verdict_of(reply: str) -> int | None:
    """−1 for A, 1 for B, 0 for a tie; None if the reply names none or several of them."""
    named = set(_VERDICT.findall(_TIE.sub("TIE", reply)))
    return {"A": -1, "B": 1, "TIE": 0}[named.pop()] if len(named) == 1 else None


def account_name(section: JudgeSection) -> str:
    """The judge's account: its name and a hash of model, wording and settings.

    With another model or wording the judge is another annotator, whose agreement with people is unknown.
    """
    content = json.dumps([section.model, section.prompt, MAX_TOKENS, "temperature 0", "both orders"])
    return f"{section.name}-{hashlib.sha256(content.encode()).hexdigest()[:10]}"
