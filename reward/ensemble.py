"""Ensembles: members that share a base and differ in their seed and in the bootstrap of their training prompts.

Knows configurations, folders and records; how one member is fitted is passed in.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np

from reward.config import RewardConfig
from workbench.data.embedded import resolve_data
from workbench.data.records import Preference
from workbench.lineage.trace import annotators_by_file
from workbench.model.processes import Processes
from workbench.run.card import write_card
from workbench.run.folder import RunFolder
from workbench.run.parents import record_lineage
from workbench.run.tracking import Tracker

Fit = Callable[..., RunFolder]
"""(config, resume=…) → the finished run of one member."""


def member_seed(seed: int, member: int) -> int:
    """The seed of a member's head, batches and bootstrap; a run without members (0) keeps its own seed."""
    return seed + 1_000_003 * member


def resampled(records: Sequence[Preference], seed: int) -> list[Preference]:
    """A bootstrap sample of the prompts, each with all its pairs; a further copy of a prompt is a group of its own.

    Source: Efron 1979. Prompts are drawn, not pairs, because pairs of one prompt are not independent.
    """
    groups = list(dict.fromkeys(record.group for record in records))
    drawn = Counter(np.random.default_rng(seed).integers(len(groups), size=len(groups)).tolist())
    copies = {groups[index]: number for index, number in drawn.items()}
    return [
        record if copy == 0 else record.model_copy(update={"group": f"{record.group}~{copy}"})
        for record in records
        for copy in range(copies.get(record.group, 0))
    ]


def started(config: RewardConfig, member: int) -> RewardConfig:
    """The configuration with the run that a member starts from as `model.start`."""
    starts = config.ensemble.starts or (config.model.start,)
    model = config.model.model_copy(update={"start": starts[(member - 1) % len(starts)]})
    return config.model_copy(update={"model": model})


def member_config(config: RewardConfig, member: int) -> RewardConfig:
    """The configuration of one member; its folder lies within the ensemble's."""
    return started(config, member).model_copy(
        update={
            "run": config.run.model_copy(update={"dir": f"{config.run.dir}/members/{member}", "overwrite": False}),
            "ensemble": config.ensemble.model_copy(update={"member": member}),
        }
    )


def _starts(config: RewardConfig) -> dict[str, str]:
    """The parents of an ensemble: `start`, and `start_2` and so on for members that start elsewhere."""
    further = [run for run in dict.fromkeys(config.ensemble.starts) if run != config.model.start]
    return {"start": config.model.start} | {f"start_{number}": run for number, run in enumerate(further, start=2)}


def train_members(config: RewardConfig, *, resume: bool, fit: Fit) -> RunFolder:
    """Fit the members one after the other, skipping finished ones.

    The ensemble's folder has no adapter of its own: `members/1` … `members/K` are whole runs on one base, so opening a
    further member costs only its adapter and head.
    """
    processes = Processes()
    folder = processes.on_first(
        lambda: RunFolder.create(
            config.run.dir, phase="reward", config=config, overwrite=config.run.overwrite, resume=resume
        )
    )
    if folder.finished:
        if processes.first:
            print(f"{folder.path}: this reward ensemble is finished already")
        return folder
    if processes.first:
        files = {"train": config.data.train, "heldout": config.data.heldout}
        data = {name: resolve_data(file) for name, file in files.items() if file is not None}
        record_lineage(folder, parents=_starts(config), data=data, annotators=annotators_by_file(data))
    try:
        members = [fit(member_config(config, n), resume=True) for n in range(1, config.ensemble.members + 1)]
    except BaseException:  # also Ctrl-C and SIGTERM: an ensemble stops with its member
        if processes.first:
            folder.update_record(status="stopped")
        raise
    if processes.first:
        _publish(config, folder, members)
    processes.wait()
    return folder


def _publish(config: RewardConfig, folder: RunFolder, members: Sequence[RunFolder]) -> None:
    """Record what the members share, log the means of their results, and write the card."""
    first = members[0].record()
    shared = {key: first[key] for key in ("base", "opened", "chat_template", "pairs")}
    folder.update_record(**shared, seed=config.run.seed, members=len(members))
    last = [member.read_metrics()[-1] for member in members]
    results = {name: fmean(row[name] for row in last) for name in last[0] if name.startswith("heldout/")}
    tracking = config.tracking
    tracker = Tracker(folder, project=tracking.project, mode=tracking.wandb, config=config.model_dump(mode="json"))
    with tracker:
        tracker.log(results, int(last[0]["step"]))
        write_card(
            folder,
            about=f"An ensemble of {len(members)} reward models in members/; the results are their means. Score: the "
            "mean of theirs; uncertainty: their standard deviation.",
            results=results,
            kind="reward",
        )
