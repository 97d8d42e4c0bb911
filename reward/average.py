"""One reward model from an ensemble: the average of its members' weights, which costs as much to use as one of them.

Source: Ramé et al. 2024, "WARM: On the Benefits of Weight Averaged Reward Models", arXiv:2401.12187. Members start from
the same weights, so the average of their weights scores about as the average of their scores, and forgets what single
members have learnt from noisy labels.
"""

from pathlib import Path

import torch
from torch import Tensor

import reward.train as phase
from reward.config import RewardConfig
from reward.data import load_data
from reward.evaluate import probe_rows
from reward.passport.issue import issue_passport, summary
from workbench.data.rules import RowRules
from workbench.evaluate.role_models import reward_roles
from workbench.model.heads import ScalarHead
from workbench.model.masks import pad_rows
from workbench.model.open import open_runs
from workbench.model.session import open_session, prepare
from workbench.run.card import write_card
from workbench.run.config import load_config, yaml_value
from workbench.run.folder import RunFolder
from workbench.run.parents import find_data, find_parent

AVERAGE = "average"


def average_members(ensemble: RunFolder, out: Path, *, base: str | None = None) -> RunFolder:
    """Write the average of an ensemble as a reward run of its own, measured and examined like any other.

    Args:
        ensemble: a finished ensemble.
        out: folder of the new run.
        base: where the base is now, if not where the run says.

    Raises:
        WorkbenchError: `out` is in use, or a file of the ensemble is missing or broken.
    """
    words = [f"run.dir={out}", "run.overwrite=false", "ensemble.members=1", "ensemble.starts=[]"]
    words += [f"data.{name}={yaml_value(str(find_data(ensemble, name)))}" for name in ensemble.record()["data"]]
    if (start := find_parent(ensemble, "start")) is not None:
        words.append(f"model.start={yaml_value(str(start.path))}")
    config, _ = load_config(RewardConfig, ensemble.config_path, [*words, *([f"model.base={base}"] if base else [])])
    setup = prepare(config)
    files = setup.files({"train": config.data.train, "heldout": config.data.heldout})
    data = load_data(setup.tokenizer, files, config.data, config.loss, seed=config.run.seed)
    parents = {"start": config.model.start, "average": str(ensemble.path)}
    rules = RowRules(config.data.ignore, config.data.bad_rows)
    session = open_session(
        setup, config, "reward", resume=False, parents=parents, files=files, rules=rules, pairs=data.counts
    )
    with session.running():
        head, raw_probe = _average(ensemble, session.folder.adapter, probe_rows(data.heldout.to_list()), base)
        results = phase.finish(config, setup, session, head, raw_probe, data)
        about = f"The average of the weights of {len(ensemble.members)} reward models ({ensemble.path})."
        write_card(session.folder, about=about, results=results, kind="reward")
    if config.passport.at_end:
        print(summary(issue_passport(config, session.folder)))
    return session.folder


def _average(ensemble: RunFolder, adapter: Path, rows: list[list[int]], base: str | None) -> tuple[ScalarHead, Tensor]:
    """Write the averaged adapter.

    Returns:
        The averaged head, not normalised yet, and (N,) the raw scores of the probe rows before the adapter was written.
    """
    members = reward_roles(ensemble.path)
    roles = open_runs(members, base=base)
    roles.average(list(members), AVERAGE)
    weights = torch.stack([roles.heads[name].weight.detach() for name in members])  # (K, D)
    head = ScalarHead(weights.shape[1])
    with torch.no_grad():
        head.weight.copy_(weights.mean(dim=0))
    roles.heads[AVERAGE] = head.to(roles.device)
    ids, mask = pad_rows(rows, roles.tokenizer.pad_token_id)
    scores = roles.scores(AVERAGE, ids.to(roles.device), mask.to(roles.device)).cpu()
    roles.save_adapter(AVERAGE, adapter)
    return head.cpu(), scores
