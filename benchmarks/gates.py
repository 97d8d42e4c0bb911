"""Claim: the gates of configs/tiny/suite.yaml pass sound runs and stop spoilt ones, each by the gate meant for it.

Sound runs are `configs/tiny/sft.yaml` with several seeds. Spoilt ones imitate demonstrations that were made rude or
padded or that give away a number; the last is the first sound run, evaluated with another chat template than it was
trained with. The rate of false alarms is the share of bootstrap samples of the prompts in which a sound run fails.

    python -m benchmarks.gates [--seeds 0 1 2] [--also RUN …]

About 5 minutes on two cores. Finished runs are kept.
"""

import argparse
import dataclasses
import gc
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS, write_result
from sft.config import SftConfig
from sft.train import train
from workbench.data.embedded import resolve_base, resolve_data
from workbench.data.perturb import pick
from workbench.data.readers import read_demonstrations, write_records
from workbench.data.records import Demonstration
from workbench.evaluate.inputs import EvaluationInputs
from workbench.evaluate.policy import Sampling
from workbench.run.config import load_config
from workbench.run.folder import RunFolder
from workbench.suite.columns import Measured
from workbench.suite.config import SuiteConfig
from workbench.suite.gates import false_alarms
from workbench.suite.run import SuiteResult, check_suite, measure
from workbench.tiny.gold import gold_reward
from workbench.tiny.phrases import FILLER, RUDE

SFT, SUITE = Path("configs/tiny/sft.yaml"), Path("configs/tiny/suite.yaml")
TELEPHONE = "The number is 2143014."
"""Made of tokens that the base was trained on; even so, the run learns to begin the sentence only."""
OTHER_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '### Instruction\\n' + message['content'] + '\\n### Response\\n' }}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)
MEANT = {"rude": "toxic_rate", "long": "length", "leak": "leak_rate", "template": "perplexity"}
"""Spoilt run → the gate that is meant for it."""
RESAMPLES = 400
SPOILT_STEPS = 100
"""Optimizer steps of a spoilt run: enough to learn its fault."""


def rude(record: Demonstration) -> str:
    """The response with an insult at its end."""
    return f"{record.response} {pick(RUDE, 'rude', record.id)}"


def long(record: Demonstration) -> str:
    """The response with four sentences of filler."""
    return " ".join([record.response, *(pick(FILLER, "long", record.id, number) for number in range(4))])


def leak(record: Demonstration) -> str:
    """The response, after somebody's telephone number."""
    return f"{TELEPHONE} {record.response}"


SPOILT: dict[str, Callable[[Demonstration], str]] = {"rude": rude, "long": long, "leak": leak}


def main(argv: list[str] | None = None) -> None:
    """Train what is missing, measure every run, and write what the gates say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--also", type=Path, nargs="*", default=[], help="more runs that are sound")
    parser.add_argument("--runs", type=Path, default=Path("runs/gates"))
    parser.add_argument("--set", nargs="*", default=[], metavar="a.b=value", help="overrides of every training")
    parser.add_argument("--out", type=Path, default=RESULTS / "gates.json")
    arguments = parser.parse_args(argv)
    runs = arguments.runs
    sound = [trained(runs / f"sound-{seed}", [f"run.seed={seed}", *arguments.set]) for seed in arguments.seeds]
    sound += arguments.also
    short = [f"train.max_steps={SPOILT_STEPS}"]
    spoilt = {
        name: trained(runs / name, [f"data.train={changed(runs / f'{name}.jsonl', change)}", *short, *arguments.set])
        for name, change in SPOILT.items()
    }
    write_result(arguments.out, outcome(sound, spoilt, runs))


def outcome(sound: Sequence[Path], spoilt: dict[str, Path], runs: Path) -> dict[str, Any]:
    """What the gates say about every run, and about the first sound one on a base with another template."""
    config = load_config(SuiteConfig, SUITE, ["stress.perturbations=[]", "stress.dimensions=[]", "few_shot.shots=0"])[0]
    result = measured(config, [*sound, *spoilt.values()], runs / "suite", "tiny")
    other = measured(
        config, sound[:1], runs / "suite-template", str(base_with_other_template(runs / "base-of-template"))
    )
    passed = {run.as_posix(): verdicts(result, run) for run in sound}
    alarms = {
        run.as_posix(): false_alarms(column_of(result, run).measures, config.gates, resamples=RESAMPLES, seed=0)
        for run in sound
    }
    found = {name: verdicts(result, run) for name, run in spoilt.items()} | {"template": verdicts(other, sound[0])}
    stopped = {name: not gates[MEANT[name]]["passed"] for name, gates in found.items()}
    return {
        "sound": {
            "passed": sum(all(gate["passed"] for gate in gates.values()) for gates in passed.values()),
            "of": len(passed),
            "runs": passed,
        },
        "spoilt": {
            "stopped_by_the_gate_meant_for_it": sum(stopped.values()),
            "of": len(stopped),
            "meant": MEANT,
            "runs": found,
        },
        "false_alarms": {"worst": max(one["any"] for one in alarms.values()), "resamples": RESAMPLES, "runs": alarms},
        "prompts": result.prompts,
    }


def changed(path: Path, change: Callable[[Demonstration], str]) -> Path:
    """The embedded demonstrations with other responses, as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records = read_demonstrations(resolve_data("tiny:demonstrations"))
    write_records(path, [record.model_copy(update={"response": change(record)}) for record in records])
    return path


def base_with_other_template(folder: Path) -> Path:
    """A copy of the embedded base with another chat template: the same weights."""
    if not folder.is_dir():
        shutil.copytree(resolve_base("tiny"), folder)
    (folder / "chat_template.jinja").write_text(OTHER_TEMPLATE, encoding="utf-8")
    return folder


def trained(folder: Path, overrides: Sequence[str]) -> Path:
    """Train a run, unless that was done before."""
    if not (folder / "run.json").is_file() or not RunFolder(folder).finished:
        common = [f"run.dir={folder}", "run.overwrite=true", "tracking.wandb=disabled", "checkpoint.every=0"]
        train(load_config(SftConfig, SFT, [*common, *overrides])[0], resume=False)
        gc.collect()
    return folder


def measured(config: SuiteConfig, runs: Sequence[Path], out: Path, base: str) -> SuiteResult:
    """The suite of some runs on the embedded base, or on a copy of it."""
    own = config.model_copy(update={"report": config.report.model_copy(update={"dir": str(out)})})
    inputs = EvaluationInputs(base=base)
    folders = check_suite(own, list(map(str, runs)), inputs)
    return measure(own, folders, inputs, gold=gold_reward, sampling=Sampling(batch_size=128))


def column_of(result: SuiteResult, run: Path) -> Measured:
    """What was measured of a run."""
    (found,) = (one for one in result.measured if one.column.run == run)
    return found


def verdicts(result: SuiteResult, run: Path) -> dict[str, Any]:
    """Gate → whether a run passed it, its limit and what was measured."""
    name = column_of(result, run).column.name
    return {
        verdict.metric: {
            "passed": verdict.passed,
            "limit": verdict.limit,
            "measured": None if verdict.estimate is None else dataclasses.asdict(verdict.estimate),
        }
        for verdict in result.verdicts
        if verdict.run == name
    }


if __name__ == "__main__":
    main()
