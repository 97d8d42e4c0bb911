"""The report is complete and self-contained, names missing parts, and escapes hostile text."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tests.workbench.evaluate.fakes import (
    FakePolicy,
    gold,
    make_demonstrations,
    make_preference,
    make_prompts,
    score,
    write_rows,
    write_run,
)
from workbench.data.readers import write_records
from workbench.evaluate.charts import visible
from workbench.evaluate.collect import depth_of, find_runs, read_runs, starting_policy
from workbench.evaluate.evaluation import Evaluation
from workbench.evaluate.overlap import overlap
from workbench.evaluate.policy import Opponent, evaluate_policy, trace
from workbench.evaluate.report import alarms, build_report, exchanges
from workbench.evaluate.reward_model import evaluate_reward_model
from workbench.evaluate.summary import build_summary
from workbench.evaluate.tables import number
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.lineage import data_fingerprint, file_fingerprint
from workbench.run.progress import duration

HOSTILE = (
    "<script>alert('x')</script><img src=https://evil.example/a.png onerror=alert(1)>"
    "</style></p></section><a href='javascript:alert(1)'>x</a> {{ 7*7 }} {% raw %} \x1b[31m \x00 \u202etxt & done"
)


class Page(HTMLParser):
    """Tags, links and text of a page, as a browser would read them."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], [], []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        if not {"style", "svg"} & set(self.open):
            self.text.append(data)


def make_runs(root, *, word="good"):
    """sft → reward → ppo, evaluated."""
    sft = write_run(
        root / "sft", phase="sft", data={"train": {"path": "x/demos.jsonl", "bytes": 1, "sha256": "abcdef0123"}}
    )
    reward = write_run(root / "reward", phase="reward", parents={"start": str(sft)})
    ppo = write_run(root / "ppo", phase="ppo", parents={"start": str(sft), "reward_1": str(reward)}, seconds=300)
    write_rows(sft / "metrics.jsonl", [{"step": i, "sft/loss": 3 - i / 10, "validation/loss": 2.0} for i in range(20)])
    write_rows(
        ppo / "metrics.jsonl",
        [
            {"step": i, "objective/score": i / 9, "objective/kl": i / 3, "policy/loss": None, "value/loss": 1 / (i + 1)}
            for i in range(20)
        ],
    )
    prompt = [message.model_dump() for message in make_prompts(1)[0].prompt]
    write_rows(
        ppo / "samples.jsonl",
        [{"step": i, "prompt": prompt, "response": "good " * i, "ended": True, "score": i} for i in range(9)],
    )
    prompts = make_prompts(24)
    before = evaluate_policy(
        FakePolicy("bad", reference=False), prompts, gold=gold, demonstrations=make_demonstrations(3)
    )
    rows = [
        [json.loads(line) for line in (ppo / f"{n}.jsonl").read_text().splitlines()] for n in ("samples", "metrics")
    ]
    after = evaluate_policy(
        FakePolicy(word),
        prompts,
        gold=gold,
        score=score,
        opponent=Opponent(str(sft), before.answers),
        trajectory=trace(*rows, gold=gold),
    )
    pairs = [make_preference(i, "good good " * (i % 5 + 1), "bad") for i in range(40)]
    Evaluation(str(sft), "sft", 0, {}, policy=before).save(sft / "evaluation.json")
    Evaluation(str(ppo), "ppo", 0, {}, policy=after).save(ppo / "evaluation.json")
    judged = evaluate_reward_model(score, pairs, gold=gold)
    Evaluation(str(reward), "reward", 0, {}, reward_model=judged).save(reward / "evaluation.json")
    return [ppo, reward, sft]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return make_runs(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def page(runs):
    return build_report(runs, runs[0].parent / "report.html").read_text()


def test_the_report_is_complete(page):
    text = " ".join(" ".join(Page(page).text).split())
    for part in (
        "Warnings",
        "Gold reward",
        "Win rate",
        "Reliability",
        "noise ceiling",
        "Loss · sft",
        "Reward curve",
    ):
        assert part in text
    for part in ("Reward against KL", "Over-optimisation · ppo", "Answers side by side", "demos.jsonl", "abcdef01"):
        assert part in text
    assert "from reward" in text
    assert "wins 100% against sft" in text
    assert "judged by the gold reward" in text
    assert page.count("<svg") == 10
    assert page.count('<article class="exchange">') == 10
    assert "No run logged" not in text


def test_the_page_loads_nothing_and_runs_no_script(page):
    found = Page(page)
    assert not {"script", "link", "iframe", "object", "embed", "img", "form", "base"} & set(found.tags)
    assert not re.search(r"https?:|@import|javascript:", page)
    for tag, name, value in found.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in {"href", "src"}:
            assert value.startswith("#"), (tag, name, value)
    assert "default-src 'none'" in page


def test_accessible(page):
    found = Page(page)
    assert found.tags.count("table") == found.tags.count("caption") == 3
    assert ("html", "lang", "en") in found.attributes
    assert found.tags.count("h1") == 1
    labels = [value for tag, name, value in found.attributes if (tag, name) == ("svg", "aria-label")]
    assert len(labels) == page.count("<svg")
    assert all(labels)
    identifiers = [value for _, name, value in found.attributes if name == "id"]
    assert len(identifiers) == len(set(identifiers))
    targets = {value[1:] for tag, name, value in found.attributes if (tag, name) == ("a", "href")}
    assert targets <= set(identifiers)
    assert "prefers-color-scheme: dark" in page
    assert found.open in ([], ["meta"]) or set(found.open) <= {"meta", "path", "use", "i"}


def test_same_page_twice(runs, page, tmp_path):
    assert build_report(runs, tmp_path / "again.html").read_text() == page
    assert build_report(runs[::-1], tmp_path / "other.html").read_text() == page


def test_hostile_text_stays_text(tmp_path):
    runs = make_runs(tmp_path)
    path = tmp_path / "ppo" / "evaluation.json"
    content = json.loads(path.read_text())
    for answer in content["policy"]["answers"]:
        answer["response"] = HOSTILE
        answer["prompt"] = [{"role": "user<b>", "content": HOSTILE}]
    content["policy"]["opponent"] = HOSTILE
    path.write_text(json.dumps(content))
    record = json.loads((tmp_path / "ppo" / "run.json").read_text())
    record |= {"name": HOSTILE, "status": HOSTILE, "base": HOSTILE, "seed": HOSTILE, "versions": {HOSTILE: HOSTILE}}
    record["data"] = {HOSTILE: {"path": HOSTILE, "bytes": 1, "sha256": HOSTILE}}
    record["parents"][HOSTILE] = HOSTILE
    (tmp_path / "ppo" / "run.json").write_text(json.dumps(record))
    (tmp_path / "ppo" / "config.yaml").write_text(HOSTILE)
    metrics = [{"step": i, f"{HOSTILE}/loss": i, "objective/score": i, "objective/kl": i} for i in range(9)]
    write_rows(tmp_path / "ppo" / "metrics.jsonl", metrics)
    source = build_report(runs, tmp_path / "report.html").read_text()
    found = Page(source)
    assert not {"script", "img", "b<", "user<b"} & set(found.tags)
    assert not [name for _, name, _ in found.attributes if name.startswith("on")]
    assert {value[0] for _, name, value in found.attributes if name == "href"} == {"#"}
    assert "{{ 7*7 }}" in source
    assert "49" not in "".join(found.text).split("{{ 7*7 }}")[1][:20]
    assert "\x00" not in source
    assert "\x1b" not in source
    assert "␛[31m ␀" in source


def test_visible_changes_only_control_characters():
    assert visible("a\tb\nc é 漢 \x07") == "a\tb\nc é 漢 ␇"


def test_numbers_and_durations():
    assert (number(None), number(-0.5), number(1 / 3, 3)) == ("–", "−0.50", "0.333")
    assert [duration(s) for s in (None, 61.2, 300, 9000)] == ["–", "61 s", "5 min", "2 h 30 min"]


def test_order_colours_and_start(runs):
    views = read_runs(runs)
    assert [view.name for view in views] == ["sft", "reward", "ppo"]
    assert [view.colour for view in views] == [1, 2, 3]
    assert starting_policy(views[2], views) is views[0]
    assert starting_policy(views[0], views) is None


def test_runs_of_one_name_are_told_apart_and_each_is_compared_with_its_own_start(tmp_path):
    first, second = (make_runs(tmp_path / where) for where in ("one", "two"))
    views = {view.name: view for view in read_runs([*first, *second])}
    assert set(views) == {f"{where}/{phase}" for where in ("one", "two") for phase in ("sft", "reward", "ppo")}
    together = list(views.values())
    assert starting_policy(views["two/ppo"], together) is views["two/sft"]
    assert views["two/ppo"].parents == {"start": "two/sft", "reward_1": "two/reward"}
    assert [depth_of(views[name], together) for name in ("two/sft", "two/reward", "two/ppo")] == [0, 1, 2]
    apart = read_runs([first[2], second[0]])  # its own start is not in this report
    assert starting_policy(apart[1], apart) is None


def test_exchanges_are_spread_and_shared(runs):
    found = [(view, view.evaluation.policy) for view in read_runs(runs) if view.is_policy]
    shown = exchanges(found)
    assert [one.answers[0][1].prompt_id for one in shown[:3]] == ["p0", "p2", "p4"]
    assert all(len({answer.prompt_id for _, answer in one.answers}) == 1 for one in shown)
    half = replace(found[1][1], answers=found[1][1].answers[:4])
    assert len(exchanges([found[0], (found[1][0], half)])) == 4
    assert exchanges([]) == []


def test_missing_parts_are_named(tmp_path):
    sft = write_run(tmp_path / "sft", phase="sft", status="started")
    reward = write_run(tmp_path / "reward", phase="reward", parents={"start": str(sft)})
    text = " ".join(" ".join(Page(build_report([sft, reward], tmp_path / "r.html").read_text()).text).split())
    assert f"not evaluated yet: python -m workbench evaluate {sft}" in text
    assert f"not evaluated yet: python -m workbench evaluate {reward}" in text
    assert "No policy has been evaluated" in text
    assert "No loss was logged in metrics.jsonl" in text
    assert "No run logged `objective/score`" in text
    assert "No run has samples over several steps" in text
    assert "not finished (status started)" in text


def test_without_a_gold_reward_the_reward_model_is_named_as_judge(tmp_path):
    sft, ppo = (write_run(tmp_path / name, phase=name) for name in ("sft", "ppo"))
    before = evaluate_policy(FakePolicy("bad"), make_prompts(9), score=score)
    after = evaluate_policy(FakePolicy(), make_prompts(9), score=score, opponent=Opponent("sft", before.answers))
    for run, policy in ((sft, before), (ppo, after)):
        Evaluation(str(run), run.name, 0, {}, policy=policy).save(run / "evaluation.json")
    text = " ".join(Page(build_report([sft, ppo], tmp_path / "r.html").read_text()).text)
    assert "No gold reward is known for these prompts" in text
    assert "judged by the reward model" in text


def guarded(folder, name, *actions, **record):
    """A run whose guard acted like this at each observation."""
    run = write_run(folder / name, phase="ppo", **record)
    words = {"why": "risk 1.2 of 1: <b>because</b>", "score": None, "judge": 0.5}
    rows = [{"step": 2 * n, "action": action, "risk": n / 2, **words} for n, action in enumerate(actions)]
    write_rows(run / "guard.jsonl", rows)
    return run


def test_decisions_of_the_guard_are_explained(tmp_path):
    rolled_back = {"status": "rolled back", "guard": {"stopped_at": 4, "back_to": 2}}
    stopped = guarded(tmp_path, "stopped", "go on", "say", "stop", **rolled_back)
    runs = [stopped, guarded(tmp_path, "calm", "go on", "go on"), guarded(tmp_path, "raised", "go on", "beta")]
    page = Page(build_report(runs, tmp_path / "report.html").read_text())
    text = " ".join(" ".join(page.text).split())
    assert "The guard stopped this run at step 4 and took the policy of step 2." in text
    assert "No alarm in 2 observations." in text
    assert "1 alarms in 2 observations" not in text
    assert "raised the KL penalty" in text
    assert text.count("risk 1.2 of 1: <b>because</b>") == 3
    assert "is not finished" not in text, "a run that went back is complete"


def test_people_and_reward_are_on_one_plot(tmp_path):
    share = {"won": 1.0, "low": 0.03, "high": 0.7}
    check = {"iteration": 2, "score": 0.5, "asked": 6}
    why = "from iteration 2 on, people preferred <b>the start</b>"
    paused = {"status": "paused", "people": {"paused_at": 4, "why": why}}
    runs = [write_run(tmp_path / "run", phase="ppo", **paused), write_run(tmp_path / "waiting", phase="ppo")]
    for run, judged in zip(runs, (4, 0), strict=True):
        kinds = {kind: share | {"judged": judged} for kind in ("random", "surest")}
        write_rows(run / "people.jsonl", [{"step": 4, "why": "", "checks": [check | kinds]}])
        write_rows(run / "metrics.jsonl", [{"step": n, "objective/score": float(n)} for n in range(5)])
    page = Page(build_report(runs, tmp_path / "report.html").read_text())
    text = " ".join(" ".join(page.text).split())
    assert f"The run paused in iteration 4: {why}." in text
    assert "The run is not finished (status paused)" in text
    assert "Nobody has judged one of the 6 pairs" in text
    assert (
        "Spot checks" not in Page(build_report([guarded(tmp_path, "g", "go on")], tmp_path / "g.html").read_text()).text
    )


def test_find_runs(runs, tmp_path):
    assert find_runs(runs[0].parent) == sorted(runs)
    assert find_runs(runs[0]) == [runs[0]]
    with pytest.raises(WorkbenchError, match="no run in this folder"):
        find_runs(tmp_path)
    with pytest.raises(WorkbenchError, match="no such folder"):
        find_runs(tmp_path / "x")


def test_no_run_at_all(tmp_path):
    with pytest.raises(WorkbenchError, match="no run is given"):
        build_report([], tmp_path / "r.html")
    with pytest.raises(WorkbenchError, match="no run here"):
        build_report([tmp_path / "nowhere"], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_summary(runs):
    ppo, reward, sft = runs
    paths = {"sft": sft, "reward": reward, "ppo": ppo}
    summary = build_summary(paths, {"sft": 61.0}, 1.5, seed=3)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert set(summary) == {"phases", "seconds", "peak_rss_gib", "seed", "versions"}
    phases = summary["phases"]
    assert phases["ppo"]["win_rate"] == 1.0
    assert len(phases["ppo"]["win_rate_ci"]) == len(phases["ppo"]["gold_ci"]) == 2
    assert phases["ppo"]["gold_mean"] > 0 > phases["sft"]["gold_mean"]
    assert phases["sft"]["perplexity"] == pytest.approx(7)
    assert phases["sft"]["kl"] is None
    assert phases["ppo"]["kl"] > 0
    assert {"accuracy", "gold_accuracy", "noise_ceiling", "ece"} <= set(phases["reward"])


def test_summary_needs_evaluations(tmp_path):
    run = write_run(tmp_path / "ppo", phase="ppo")
    with pytest.raises(WorkbenchError, match="not been evaluated"):
        build_summary({"ppo": run}, {}, 0.0, 0)


def test_overlap_with_training_prompts_is_counted(tmp_path):
    prompts = make_prompts(10)
    train = tmp_path / "train.jsonl"
    others = [p.model_copy(update={"id": f"other {p.id}"}) for p in make_prompts(5, "Something else {}?")]
    write_records(train, [*prompts[:4], *others])
    data = {"train": file_fingerprint(train)}
    sft = write_run(tmp_path / "sft", phase="sft")
    ppo = write_run(tmp_path / "ppo", phase="ppo", parents={"start": str(sft)}, method="ppo", data=data)
    (ppo / "config.yaml").write_text("data: {heldout_share: 0.0}\nrun: {seed: 0}")
    policy = evaluate_policy(FakePolicy(), prompts)
    for run in (sft, ppo):
        Evaluation(str(run), run.name, 0, {}, policy=policy).save(run / "evaluation.json")
    text = " ".join(" ".join(Page(build_report([sft, ppo], tmp_path / "r.html").read_text()).text).split())
    assert "ppo was trained on 4 of 10" in text
    assert "sft: not checked" in text
    assert "no phase was trained on" not in text
    train.write_text(train.read_text() + "\n\n")
    assert overlap("ppo", RunFolder(ppo), []).reason.endswith("has changed since")


def test_overlap_is_counted_in_a_folder_of_files(tmp_path):
    prompts = make_prompts(6)
    (tmp_path / "shards").mkdir()
    write_records(tmp_path / "shards/0.jsonl", prompts[:3])
    data = {"train": data_fingerprint(tmp_path / "shards")}
    ppo = write_run(tmp_path / "ppo", phase="ppo", method="ppo", data=data)
    (ppo / "config.yaml").write_text("data: {heldout_share: 0.0}\nrun: {seed: 0}")
    asked = [[message.model_dump() for message in prompt.prompt] for prompt in prompts]
    found = overlap("ppo", RunFolder(ppo), asked)
    assert (found.shared, found.prompts) == (3, 6)


def test_warnings_from_a_runs_own_files(tmp_path):
    reward = write_run(tmp_path / "reward", phase="reward")
    (reward / "passport.json").write_text(json.dumps({"outcome": "fail", "failed": ["accuracy", "swap/names"]}))
    bare = write_run(tmp_path / "bare", phase="reward")
    ppo = write_run(tmp_path / "ppo", phase="ppo", forced={str(reward): ["check accuracy fails"]})
    sft = write_run(tmp_path / "sft", phase="sft", warnings=["it diverged"])
    write_rows(sft / "metrics.jsonl", [{"step": 0, "validation/loss": 2.0}, {"step": 9, "validation/loss": 4.5}])
    told = [(alarm.run, alarm.text) for alarm in alarms(read_runs([reward, bare, ppo, sft]))]
    assert ("reward", "This reward model fails its passport: accuracy, swap/names.") in told
    assert ("bare", "This reward model has no passport: it was never tested.") in told
    assert any(run == "ppo" and "forced" in text and "check accuracy fails" in text for run, text in told)
    assert ("sft", "it diverged") in told
    assert ("sft", "Validation loss rose in training: 2.000 → 4.500 nats per token.") in told


@pytest.mark.parametrize(("parents", "optimised"), [({}, False), ({"reward_1": "runs/reward"}, True)])
def test_only_a_policy_with_a_reward_parent_optimised_it(tmp_path, parents, optimised):
    before = evaluate_policy(FakePolicy("bad"), make_prompts(9), score=score)
    after = evaluate_policy(FakePolicy(), make_prompts(9), score=score, opponent=Opponent("sft", before.answers))
    run = write_run(tmp_path / "dpo", phase="ppo", parents=parents)
    Evaluation(str(run), "ppo", 0, {}, policy=after).save(run / "evaluation.json")
    texts = [alarm.text for alarm in alarms(read_runs([run]))]
    assert any("that was also optimised" in text for text in texts) == optimised
    assert any("was not trained against" in text for text in texts) != optimised


def test_a_report_never_replaces_a_file_of_a_run(tmp_path):
    folders = [write_run(tmp_path / "sft", phase="sft")]
    file = folders[0] / "run.json"
    before = file.read_bytes()
    with pytest.raises(WorkbenchError, match="is one of the inputs, and would be overwritten"):
        build_report(folders, file)
    assert file.read_bytes() == before
    for _ in range(2):  # an older page may be replaced
        assert build_report(folders, folders[0] / "report.html").is_file()
