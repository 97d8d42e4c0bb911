"""Probabilities of label words against a direct computation, and calibration."""

import numpy as np
import pytest
import torch

from sft.classify.classifiers import CONTENT_FREE, WordClassifier
from sft.classify.config import VerbalizerSection
from sft.classify.encode import Question
from workbench.model.open import open_runs


@pytest.fixture(scope="module")
def asked(sft_run):
    roles = open_runs({"policy": sft_run})
    section = VerbalizerSection(prompt="{text} {labels}?", words=("b=two words",))
    return roles, Question(roles.tokenizer, section, ["a", "b"], 96)


def test_log_probabilities_are_sums_over_the_answers_tokens(asked):
    """The oracle: the logits of a whole forward pass of transformers over each prompt with its answer."""
    roles, question = asked
    model = WordClassifier(roles, "policy", question, calibrated=False, batch_size=4)
    texts = ["Where is my order?", "No idea."]
    table = model.log_probabilities(texts)
    for row, text in enumerate(texts):
        for column, answer in enumerate(question.answers):
            ids, _ = question(text)
            with torch.no_grad():
                logits = roles.model(input_ids=torch.tensor([[*ids, *answer]])).logits[0].double()
            taken = torch.log_softmax(logits, dim=-1)[len(ids) - 1 : -1]
            wanted = float(taken.gather(1, torch.tensor(answer)[:, None]).sum())
            assert table[row, column] == pytest.approx(wanted, abs=1e-3)


def test_calibration_makes_a_text_without_content_neutral(asked):
    roles, question = asked
    model = WordClassifier(roles, "policy", question, calibrated=True, batch_size=4)
    raw = WordClassifier(roles, "policy", question, calibrated=False, batch_size=4)
    plain = raw.probabilities(CONTENT_FREE)
    assert np.exp(model.bias) == pytest.approx(plain.mean(axis=0))
    texts = ["Where is my order?"]
    expected = raw.probabilities(texts) / plain.mean(axis=0)
    assert model.probabilities(texts) == pytest.approx(expected / expected.sum(axis=1, keepdims=True))
    assert not np.allclose(plain.mean(axis=0), 0.5, atol=1e-3), "the control: without calibration it is not neutral"
