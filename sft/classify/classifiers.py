"""Classifiers of texts: token rows in, probabilities of the labels out. No gradients.

Shapes: N = texts, K = labels, D = hidden.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from scipy.special import expit, log_softmax, logsumexp, softmax
from torch import Tensor

from sft.classify.encode import PlainRows, Question
from workbench.evaluate.statistics import Floats
from workbench.model.base import default_device
from workbench.model.heads import LabelHead
from workbench.model.masks import last_tokens, pad_rows
from workbench.model.roles import Roles
from workbench.model.score import batches_by_length, pass_tokens, response_nll

CONTENT_FREE = ("N/A", "", "[MASK]")
"""Texts without content: what the LM answers to them is its bias. Source: Zhao et al. 2021, arXiv:2102.09690."""
_WINDOW = 256
"""Texts whose rows exist at the same time."""


class Classifier(Protocol):
    """Gives each text a probability per label."""

    cut: int
    """Texts so far whose end was cut off."""

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """(N, K) float64; rows add up to 1, except for multi-label tasks."""


class HeadClassifier:
    """A linear head on the hidden state of each row's last token.

    Args:
        roles: the base with the adapter.
        role: the adapter's role.
        head: its labels are the columns.
        rows: text → token row.
        multi_label: sigmoid per label instead of softmax over labels.
        batch_size: rows per forward pass, at most.
    """

    def __init__(  # one parameter per part of a classifier
        self, roles: Roles, role: str, head: LabelHead, rows: PlainRows, *, multi_label: bool, batch_size: int
    ) -> None:
        self.roles, self.role, self.head, self.rows = roles, role, head, rows
        self.multi_label, self.batch_size = multi_label, batch_size
        self.cut = 0

    def logits(self, texts: Sequence[str]) -> Tensor:
        """(N, K) float32 on the CPU."""
        encoded = [self.rows(text) for text in texts]
        self.cut += sum(cut for _, cut in encoded)
        states = last_states(self.roles, self.role, [ids for ids, _ in encoded], batch_size=self.batch_size)
        with torch.no_grad():
            return self.head.cpu()(states)

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """(N, K); see `Classifier`."""
        logits = self.logits(texts).double().numpy()
        return expit(logits) if self.multi_label else softmax(logits, axis=1)


class WordClassifier:
    """The LM's probabilities of the label words as answers to a question about the text.

        p_k ∝ P(answer_k | question) / P(answer_k | question without content)^c

    log P is the sum over the answer's tokens, EOS included, not divided by their number; c is 1 if calibrated, else 0.

    Args:
        roles: the base with the adapter.
        role: the adapter's role.
        question: prompt and answers.
        calibrated: contextual calibration (Zhao et al. 2021, arXiv:2102.09690), on the mean over `CONTENT_FREE`.
        batch_size: rows per forward pass, at most.
    """

    def __init__(self, roles: Roles, role: str, question: Question, *, calibrated: bool, batch_size: int) -> None:
        self.roles, self.role, self.question = roles, role, question
        self.calibrated, self.batch_size = calibrated, batch_size
        self.cut = 0
        self.bias = self._bias()
        """(K,) log-probability of each label under a question without content."""

    def log_probabilities(self, texts: Sequence[str]) -> Floats:
        """(N, K) float64 nats, log P(answer | question) of each label's answer."""
        tables = [np.empty((0, len(self.question.answers)))]
        for start in range(0, len(texts), _WINDOW):
            encoded = [self.question(text) for text in texts[start : start + _WINDOW]]
            self.cut += sum(cut for _, cut in encoded)
            prompts = [ids for ids, _ in encoded for _ in self.question.answers]
            answers = self.question.answers * len(encoded)
            nats, _ = response_nll(self.roles, self.role, prompts, answers, batch_size=self.batch_size)
            tables.append(-nats.numpy().reshape(len(encoded), -1))
        return np.concatenate(tables)

    def _bias(self) -> Floats:
        shares = log_softmax(self.log_probabilities(CONTENT_FREE), axis=1)
        mean: Floats = logsumexp(shares, axis=0) - np.log(len(CONTENT_FREE))
        return mean

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """(N, K); see `Classifier`."""
        return self.of_log_probabilities(self.log_probabilities(texts), calibrated=self.calibrated)

    def of_log_probabilities(self, table: Floats, *, calibrated: bool) -> Floats:
        """(N, K) probabilities from (N, K) log-probabilities of the answers."""
        return softmax(table - self.bias if calibrated else table, axis=1)


def last_states(roles: Roles, role: str, rows: Sequence[Sequence[int]], *, batch_size: int) -> Tensor:
    """(N, D) float32 hidden states of each row's last token, in the order of the rows, on the CPU."""
    device, states = default_device(), torch.zeros(0)
    lengths = [len(row) for row in rows]
    for batch in batches_by_length(lengths, batch_size=batch_size, batch_tokens=pass_tokens(device)):
        ids, mask = pad_rows([list(rows[index]) for index in batch], roles.tokenizer.pad_token_id)
        ids, mask = ids.to(device), mask.to(device)
        with roles.use(role) as forward:
            hidden = forward(ids, mask, last_tokens(mask)).detach().float().cpu()  # (B, D)
        if not len(states):
            states = torch.zeros(len(rows), hidden.shape[1])
        states[batch] = hidden
    return states
