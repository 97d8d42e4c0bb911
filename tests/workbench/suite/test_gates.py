"""Gates need the whole interval; their false alarms are counted; a wrong suite file is explained."""

import numpy as np
import pytest

from workbench.evaluate.statistics import Estimate
from workbench.run.config import load_config
from workbench.run.errors import WorkbenchError
from workbench.suite.config import GateSection, SuiteConfig
from workbench.suite.gates import applies, false_alarms, judge
from workbench.suite.measures import Measure
from workbench.suite.report import gate_line


@pytest.mark.parametrize(
    ("limits", "passed"),
    [
        ({"at_most": 0.31}, True),
        ({"at_most": 0.25}, False),  # the mean keeps it, the interval does not
        ({"at_least": 0.09}, True),
        ({"at_least": 0.15}, False),
        ({"at_least": 0.05, "at_most": 0.25}, False),
    ],
)
def test_a_gate_needs_the_whole_interval(limits, passed):
    gate = GateSection(metric="toxic_rate", **limits)
    assert judge("run", gate, Estimate(0.2, 0.1, 0.3, 50, 50)).passed is passed
    assert not judge("run", gate, None).passed


def test_one_prompt_has_no_interval_so_its_gate_fails_and_says_so():
    gate = GateSection(metric="length", at_most=35)
    one, two = (Measure.mean(values).estimate(0) for values in ([21.0], [21.0, 21.0]))
    verdict = judge("sft", gate, one)
    assert gate_line(verdict) == "gate FAILED: sft: length ≤ 35: 21.000 (interval unknown: fewer than 2 prompts)"
    assert judge("sft", gate, two).passed
    share = Measure.mean([0.0], share=True).estimate(0)
    assert judge("sft", GateSection(metric="toxic_rate", at_most=0.9), share).passed, "Wilson's interval is 0 to 0.79"


@pytest.mark.parametrize(
    ("metric", "kind"),
    [
        ("toxic_rate", "policy"),
        ("drop/typos/gold", "policy"),
        ("gap/names/reward/score", "reward"),
        ("reward/accuracy", "reward"),
        ("classifier/macro_f1", "classifier"),
    ],
)
def test_a_gate_is_for_runs_of_one_kind(metric, kind):
    assert [other for other in ("policy", "reward", "classifier") if applies(metric, other)] == [kind]


def test_false_alarms_follow_the_distance_to_the_limit():
    values = np.random.default_rng(1).normal(0, 1, 100)
    high = Measure.mean(values).estimate(0).high

    def alarms(limit):
        gate = GateSection(metric="kl", at_most=limit)
        return false_alarms({"kl": Measure.mean(values)}, [gate], resamples=200, seed=0)

    assert alarms(high + 1) == {"kl": 0.0, "any": 0.0}
    assert 0.3 < alarms(high)["kl"] < 0.7  # a limit at the interval's own end is a coin flip
    assert alarms(float(values.mean()) - 1)["any"] == 1.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gates: [{metric: kl}]", "no limit"),
        ("stress: {perturbations: [typo]}", "did you mean 'typos'"),
        ("few_shot: {shots: 2}", "needs examples"),
    ],
)
def test_a_wrong_suite_file_is_an_error_that_helps(tmp_path, text, said):
    path = tmp_path / "suite.yaml"
    path.write_text(f"data: {{references: x}}\nreport: {{dir: out}}\n{text}\n")
    with pytest.raises(WorkbenchError, match=said):
        load_config(SuiteConfig, path)
