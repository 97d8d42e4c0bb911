"""What the verbs `pairs` and `campaign` do: from a configuration to answers of runs, and what was found of them.

The only verbs that open a model, in this process and not in the page's.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from annotate.campaign.report import Report, campaign_report
from annotate.campaign.start import campaign_names, start
from annotate.config import AnnotateConfig
from annotate.inputs import needed
from annotate.sampling.follow import Pass, Rules, follow
from annotate.sampling.pairs import Recipe, make_pairs, sampler_of_run
from annotate.sampling.sources import locate
from annotate.statistics.ratings import ELO
from annotate.store.database import Store
from workbench.data.embedded import resolve_data
from workbench.data.readers import read_demonstrations, read_prompts
from workbench.data.records import Prompt, prompt_id
from workbench.data.rules import RowRules
from workbench.run.errors import WorkbenchError
from workbench.run.out_of_memory import memory_hint


@memory_hint("while sampling pairs", "a smaller pairs.batch_size or pairs.max_new_tokens")
def sample_pairs(config: AnnotateConfig) -> None:
    """Write pairs to label to `pairs.out`."""
    section = config.pairs
    prompts = read_prompts(resolve_data(section.prompts), RowRules(config.data.ignore, config.data.bad_rows))
    recipe, out = _recipe(config), Path(needed("pairs.out", section.out))
    asked = prompts[: section.number]
    counts = make_pairs(asked, out, recipe, sampler_of_run(recipe.run, asked, recipe.max_new_tokens))
    if counts.prompts < section.number:
        print(f"{section.prompts} holds {counts.prompts:,} prompts, not {section.number:,}: all were used")
    print(
        f"{out}: {counts.items:,} pairs from {counts.prompts:,} prompts and {counts.sampled:,} answers; "
        f"{counts.identical:,} answers repeated another, {counts.resampled:,} prompts were sampled again, "
        f"{counts.dropped:,} dropped because their answers stayed the same"
    )


def _recipe(config: AnnotateConfig, run: str | None = None) -> Recipe:
    values = {name: getattr(config.pairs, name) for name in Recipe.__dataclass_fields__}
    return Recipe(**values | {"run": run or needed("pairs.run", config.pairs.run)})


def follow_run(config: AnnotateConfig, run: str, *, passes: int = 0) -> None:
    """Put new pairs of a run into the store while people label, until interrupted."""

    def opened() -> Any:
        from annotate.sampling.answerer import Answerer

        return Answerer()

    def report(done: Pass) -> None:
        when = time.strftime("%H:%M:%S")
        print(f"{when}  {done.why}: {done.new:,} new pairs from {done.source}", flush=True)

    store = Store.open(config.store_url, say=print)
    prompts = read_prompts(resolve_data(config.pairs.prompts), RowRules(config.data.ignore, config.data.bad_rows))[
        : config.pairs.number
    ]
    rules = Rules(**{name: getattr(config.follow, name) for name in Rules.__dataclass_fields__})
    print(f"{store.place}: follows {run} (Ctrl-C stops it; what was sampled is in the store)", flush=True)
    try:
        follow(
            store, run, prompts, _recipe(config, run), rules, config.queue.intake, opened, passes=passes, report=report
        )
    finally:
        store.close()


def campaign(config: AnnotateConfig, words: Sequence[str], *, as_json: bool) -> None:
    """`start`, or `report` with or without the name of one.

    Raises:
        WorkbenchError: other words, or no label store.
    """
    if list(words) == ["start"]:
        start_campaign(config)
    elif words and words[0] == "report" and len(words) <= 2:
        store = Store.open(config.store_url, as_it_is=True)
        report_campaigns(store, words[1] if words[1:] else None, as_json=as_json)
        store.close()
    else:
        raise WorkbenchError(
            "campaign",
            f"cannot read {' '.join(words)!r}",
            expected="campaign start CONFIG.yaml, or campaign report CONFIG.yaml [NAME]",
        )


@memory_hint("while sampling answers", "a smaller campaign.batch_size or campaign.max_new_tokens")
def start_campaign(config: AnnotateConfig) -> None:
    """Answer held-out prompts with every run, and put the comparisons into the store."""
    section = config.campaign
    opened: list[Any] = []

    def answers(run: str, prompts: Sequence[Prompt]) -> list[str]:
        if Path(run).suffix == ".jsonl":
            return _written_answers(run, prompts)
        from annotate.sampling.answerer import Answerer

        opened[:] = opened or [Answerer()]
        opened[0].use(locate(run))
        sampled = opened[0](
            prompts,
            temperatures=[section.temperature],
            responses_per_prompt=1,
            max_new_tokens=section.max_new_tokens,
            batch_size=section.batch_size,
            seed=section.seed,
        )
        texts = [answer.text for _, (answer,) in sampled]
        print(f"{run}: {len(texts):,} answers", flush=True)
        return texts

    for run in section.runs:
        if Path(run).suffix != ".jsonl":
            locate(run)  # a missing run is named before any is sampled
    store = Store.open(config.store_url, say=print)
    prompts = read_prompts(resolve_data(section.prompts), RowRules(config.data.ignore, config.data.bad_rows))[
        : section.number
    ]
    started = start(
        store,
        section.name,
        section.runs,
        prompts,
        answers,
        overlap=section.overlap,
        priority=section.priority,
        seed=section.seed,
    )
    print(
        f"{store.place}: campaign {section.name!r} of {len(section.runs)} runs on {started.prompts:,} prompts: "
        f"{started.comparisons:,} comparisons to judge; {started.identical:,} times two runs gave the same answer"
    )
    store.close()


def _written_answers(path: str, prompts: Sequence[Prompt]) -> list[str]:
    """Answers from a file of demonstrations, found by the text of the prompt."""
    known = {prompt_id(record.prompt): record.response for record in read_demonstrations(path)}
    missing = [prompt.id for prompt in prompts if prompt_id(prompt.prompt) not in known]
    if missing:
        raise WorkbenchError(
            path,
            f"has no answer to {len(missing)} of {len(prompts)} prompts (the first: {missing[0]})",
            expected="one answer to each prompt of campaign.prompts",
        )
    return [known[prompt_id(prompt.prompt)] for prompt in prompts]


def report_campaigns(store: Store, name: str | None, *, as_json: bool) -> None:
    """Print what one campaign found, or all of them."""
    names = [name] if name else campaign_names(store)
    reports = [campaign_report(store, one, simulated=simulated) for one in names for simulated in _kinds(store, one)]
    if as_json:
        print(json.dumps([asdict(report) for report in reports], indent=2))
    elif not reports:
        print(f"{store.place}: no campaign was started")
    else:
        print("\n\n".join(text_of(report) for report in reports))


def _kinds(store: Store, name: str) -> list[bool]:
    """People; simulated annotators instead, where only they have judged."""
    people, simulated = (campaign_report(store, name, simulated=kind).given for kind in (False, True))
    return [False] if people or not simulated else [True]


def text_of(report: Report) -> str:
    """A report as a few lines of text."""
    lines = [
        f"campaign {report.name!r}: {report.given:,} of {report.wanted:,} judgements; {report.prompts:,} prompts, "
        f"{len(report.runs)} runs"
    ]
    for pair in report.pairs:
        lines.append(f"  {pair.own}  against  {pair.other}")
        rate = pair.win_rate
        if rate is None:
            lines.append(f"    not judged yet; {pair.identical:,} prompts with the same answer")
            continue
        lines.append(
            f"    wins {rate.mean:.1%} (bootstrap {rate.low:.1%} to {rate.high:.1%}; Wilson {rate.wilson_low:.1%} to "
            f"{rate.wilson_high:.1%}; at equal length {rate.length_controlled:.1%}); {rate.prompts:,} prompts, "
            f"{pair.judgements:,} judgements, ties {rate.ties:.0%}, both bad {pair.both_bad:,}, same answer "
            f"{pair.identical:,}"
        )
    if report.ratings:
        lines.append("  Bradley-Terry ratings (Elo points, mean 0; 95 % bootstrap over prompts)")
        ranked = sorted(zip(report.runs, report.ratings, strict=True), key=lambda pair: -pair[1].value)
        for run, rating in ranked:
            known = f"{rating.low * ELO:+.0f} to {rating.high * ELO:+.0f}"
            if rating.low == rating.high:
                known = "no interval: all went one way"
            lines.append(f"    {rating.value * ELO:+7.0f}  ({known})  {run}")
    return "\n".join(lines)
