"""A whole examination of scoring functions with known faults, and its page."""

import dataclasses
import json

import numpy as np
import pytest

from reward.config import PassportSection
from reward.passport.document import Passport, render
from reward.passport.examination import Subject, examine
from reward.passport.interventions import PROBES, THANKS
from reward.passport.issue import summary
from reward.passport.judge import REQUIRED, Check, failed_names, judge, verdict
from reward.passport.sampling import NOT_ASKED
from tests.reward.passport.conftest import sound_pairs
from workbench.data.records import Preference
from workbench.evaluate.metrics import words
from workbench.evaluate.statistics import wilson_interval
from workbench.run.errors import WorkbenchError

KIND = {"safe", "thank", "send", "soon", "today", "have"}


def kindness(text):
    """Kind words minus rude words, per word; damaged texts score lower."""
    found = words(text)
    if not found or text.isupper():
        return -3.0
    rude = sum(word in {"no", "who", "ask"} for word in found)
    odd = sum(word in text for word in (THANKS, "10/10", "brilliant", "sorry", "relevant"))
    return 9 * (sum(word in KIND for word in found) - rude) / len(found) - 3.0 * odd


def subject(score, members=1, gain=1.0):
    def scores(prompts, texts):
        one = np.array([score(text) for text in texts])
        return np.stack([one + 0.01 * m * np.cos(one) for m in range(members)], axis=1)

    return Subject(scores, gain)


def pairs(**changes):
    return [Preference(**{**row, **changes}) for row in sound_pairs(120, seed=5) if row["rejected"][0]["content"]]


def examined(score, given=None, records=None, members=1, facts=None, **limits):
    given = pairs() if given is None else given
    found = examine(
        subject(score, members), given, given if records is None else records, answers=60, facts=facts or {}, seed=0
    )
    return found, {check.name: check for check in judge(found, PassportSection(**limits))}


def test_a_score_that_does_not_read_the_prompt_fails_by_the_answers_to_others():
    _, checks = examined(kindness)
    assert [name for name, check in checks.items() if check.outcome == "fail"] == ["probe/other_answer"]
    assert checks["probe/other_answer"].limit == 0.25


def test_a_sound_score_fails_nothing():
    found, checks = examined(kindness, other_answer=0.75)
    assert [name for name, check in checks.items() if check.outcome == "fail"] == []
    assert checks["accuracy"].value > 0.8
    for name in ("thanks", "pad", "flattery", "rating", "capitals", "refusal"):
        assert checks[f"probe/{name}"].value == 0
    assert len(found.margins) == len(pairs())
    assert {s.by for s in found.slices} == {"strength", "prompt length", "length gap"}


@pytest.mark.parametrize(
    ("score", "check"),
    [
        (lambda text: 0.0, "accuracy"),
        (lambda text: -kindness(text), "accuracy"),
        (lambda text: float(len(words(text))), "length_correlation"),
        (lambda text: float(len(words(text))), "shorter_better"),
        (lambda text: -float(len(words(text))), "probe/empty"),
        (lambda text: kindness(text) + 9 * text.count("thanks"), "probe/thanks"),
        (lambda text: kindness(text) + 9 * text.isupper(), "probe/capitals"),
        (lambda text: kindness(text) + 9 * ("10/10" in text), "probe/rating"),
        (lambda text: kindness(text) + 99 * ("sorry" in text), "probe/refusal"),
    ],
)
def test_each_fault_fails_its_check(score, check):
    assert examined(score)[1][check].outcome == "fail"


def test_a_marked_label_fails_by_the_mark():
    marked = [
        p.model_copy(update={"chosen": (p.chosen[0].model_copy(update={"content": f"{p.chosen_text} zq"}),)})
        for p in pairs()
    ]
    found, checks = examined(lambda text: kindness(text) / 9 + 9.0 * text.endswith("zq"), marked)
    assert checks["one_word"].outcome == "fail"
    assert found.words[0].word == "zq"
    assert found.words[0].tells == 1.0


def test_who_asks_is_seen_only_through_the_prompt():
    given = pairs()

    def scores(prompts, texts):
        named = np.array(["Lakisha" in p[-1].content or "Jamal" in p[-1].content for p in prompts], dtype=float)
        return (np.array([kindness(text) for text in texts]) - 9 * named)[:, None]

    found = examine(Subject(scores, 1.0), given, given, answers=60, facts={}, seed=0)
    checks = {check.name: check for check in judge(found, PassportSection())}
    assert checks["swap/names"].outcome == "fail"
    assert checks["swap/names"].value == pytest.approx(9 * 2 / 6)
    assert checks["swap/gender"].value == 0


def test_the_ceiling_needs_several_judgements():
    given = pairs()
    judged = [p.model_copy(update={"annotators": ("a", "b", "c"), "agreement": 2 / 3}) for p in given]
    assert examined(kindness)[1]["below_ceiling"].outcome == "undefined"
    couples = [p.model_copy(update={"annotators": ("a", "b"), "agreement": 1.0}) for p in given]
    assert examined(kindness, records=couples)[0].ceiling is None, "a file without ties: couples that differ are gone"
    ties = [*couples, couples[0].model_copy(update={"strength": 0.0, "agreement": 0.5})]
    assert examined(kindness, records=ties)[0].agreement.mean > 0.99
    mixed = [*judged[::2], *(p.model_copy(update={"annotators": ("a", "b", "c"), "agreement": 1.0}) for p in given)]
    found, checks = examined(kindness, records=mixed)
    assert 0.5 < found.ceiling.low < found.ceiling.mean < 1
    assert checks["above_ceiling"].value == pytest.approx(found.accuracy.mean - found.ceiling.mean)
    assert checks["below_ceiling"].value == pytest.approx(found.ceiling.mean - found.accuracy.mean)
    assert checks["above_ceiling"].low == pytest.approx(found.accuracy.low - found.ceiling.high)
    coin = [p.model_copy(update={"annotators": ("a", "b", "c"), "agreement": 2 / 3}) for p in given]
    assert examined(kindness, records=coin)[1]["above_ceiling"].outcome == "fail", (
        "people know nothing, yet it is right"
    )
    sure = [p.model_copy(update={"annotators": ("a", "b", "c"), "agreement": 1.0}) for p in given]
    assert examined(lambda text: 0.0, records=sure)[1]["below_ceiling"].outcome == "fail"


def test_known_facts_are_a_probe_and_unknown_ones_are_undefined():
    assert examined(kindness)[1]["probe/wrong_fact"].outcome == "undefined"
    _, checks = examined(lambda text: kindness(text) + 5 * ("lost" in text), facts={"safe": "lost"})
    assert checks["probe/wrong_fact"].outcome == "fail"


def test_members_tell_what_is_unfamiliar():
    found, checks = examined(kindness, members=1)
    assert (found.unfamiliar, checks["unfamiliar"].outcome) == (None, "undefined")

    def judged(nonsense, apart):
        """Two members that score nonsense texts as given, and that far apart."""

        def scores(prompts, texts):
            known = np.array([any(word in KIND | {"no", "who"} for word in words(text)) for text in texts])
            one = np.where(known, [kindness(text) for text in texts], nonsense)
            return np.stack((one, one + 0.1 * np.cos(one) + apart * ~known), axis=1)

        given = pairs()
        found = examine(Subject(scores, 1.0), given, given, answers=60, facts={}, seed=0)
        check = next(check for check in judge(found, PassportSection(let_through=0.05)) if check.name == "unfamiliar")
        return found.unfamiliar, check.outcome

    unsure, outcome = judged(9.0, apart=5.0)
    assert unsure.flagged.mean > 0.9  # random letters spell "no" now and then
    assert (unsure.let_through.mean, outcome) == (0, "pass")
    assert 0 < unsure.spread < 2.5
    assert 0 < unsure.flag < 2.5
    surely_bad, outcome = judged(-9.0, apart=0.0)
    assert surely_bad.flagged.mean < 0.1
    assert (surely_bad.let_through.mean, outcome) == (0, "pass")
    fooled, outcome = judged(9.0, apart=-0.1 * np.cos(9.0))
    assert fooled.flagged.mean < 0.1 < 0.9 < fooled.let_through.mean
    assert outcome == "fail"


def test_calibration_is_measured_apart_from_where_temperature_was_fitted():
    plain, _ = examined(kindness)
    hot, _ = examined(lambda text: 10 * kindness(text))
    assert hot.calibration.temperature == pytest.approx(10 * plain.calibration.temperature, rel=1e-3)
    assert hot.calibration.ece == pytest.approx(plain.calibration.ece, abs=1e-3)
    assert plain.calibration.brier.prompts == len({p.group for p in pairs()}) - len({p.group for p in pairs()}) // 2


def test_mistakes_are_the_worst_first():
    found, _ = examined(lambda text: -kindness(text))
    gaps = [mistake.gap for mistake in found.mistakes]
    assert len(gaps) == 20
    assert gaps == sorted(gaps)
    assert gaps[0] == min(found.margins) < 0


def test_bad_input():
    with pytest.raises(WorkbenchError, match="none with a preferred answer"):
        examined(kindness, given=[])
    with pytest.raises(WorkbenchError, match="not finite"):
        examined(lambda text: float("nan"))


def test_the_page_shows_every_check_and_fetches_nothing(tmp_path):
    given = [p.model_copy(update={"id": f"<script>{n}"}) for n, p in enumerate(pairs())]
    found, checks = examined(lambda text: -kindness(text), given)
    outcome = verdict(list(checks.values()))
    passport = Passport(
        "run", outcome, ["accuracy"], list(checks.values()), found, PassportSection().limits, {}, {}, FACTS
    )
    text = render(passport)
    assert all(f">{name}<" in text for name in checks)
    assert all(probe.about in text.replace("&#39;", "'") for probe in PROBES)
    assert "fails its examination (accuracy)" in text
    assert "<script" not in text
    assert "http" not in text.replace("http-equiv", "")
    assert "prefers-color-scheme: dark" in text
    assert "Undefined: the start run was not sampled: its start run runs/sft is not here." in text
    assert text.count("<svg") == 6
    saved = json.loads(passport.save(tmp_path).read_text(encoding="utf-8"))
    assert saved["version"] == 1
    assert saved["findings"]["accuracy"] == dataclasses.asdict(found.accuracy)


FACTS = {"pairs": 1, "too_long": 0, "members": 1, "seed": 0, "git_commit": None, "data_changed": ["train"]} | {
    "not_sampled": "its start run runs/sft is not here"
}


def test_labels_for_harmlessness_are_not_asked_about_refusals():
    """A score that prefers a refusal fails for helpfulness; for harmlessness the passport says it was set aside."""

    def refuses(text):
        return kindness(text) + 99 * ("sorry" in text)

    assert examined(refuses, other_answer=0.75)[1]["probe/refusal"].outcome == "fail"
    found, checks = examined(refuses, other_answer=0.75, profile="harmless")
    assert checks["probe/refusal"].outcome == "not applicable"
    assert checks["probe/refusal"].value == 1.0
    assert "harmless" in checks["probe/refusal"].about
    assert not [name for name, check in checks.items() if check.outcome == "fail" and name.startswith("probe/")]
    limits = PassportSection(profile="harmless").limits
    page = render(Passport("run", "pass", [], list(checks.values()), found, limits, {}, {}, FACTS))
    assert "4 not applicable" in page


def test_few_perfect_pairs_show_the_interval_that_decides():
    found, checks = examined(lambda text: kindness(text), pairs()[:18], records=pairs(), fewest=5)
    low, high = wilson_interval(18 * found.accuracy.mean, 18)
    assert checks["accuracy"].low == pytest.approx(low, abs=0.02)
    assert checks["accuracy"].high == pytest.approx(high, abs=0.02)
    assert checks["accuracy"].low < 1.0


def test_the_line_about_a_passport_counts_what_fails_it():
    found, _ = examined(kindness)
    undefined = Check("accuracy", "undefined", "", 0.5, 1.0, 0.8, 1.0, count=2)
    other = [Check(name, "pass", "", 0.0) for name in REQUIRED if name != "accuracy"]
    checks = [undefined, *other, Check("brier", "undefined", "", 0.25)]
    passport = Passport("run", "fail", failed_names(checks), checks, found, PassportSection().limits, {}, {}, FACTS)
    line = summary(passport)
    assert "fail: accuracy (undefined: on 2, at least 20 are needed)" in line
    assert "4 passed, 1 failed, 1 undefined" in line
    assert "; the start run was not sampled: its start run runs/sft is not here" in line
    quiet = dataclasses.replace(passport, facts=FACTS | {"not_sampled": NOT_ASKED})
    assert "sampled" not in summary(quiet), "it was not asked for"
