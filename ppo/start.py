"""The start of a run: data, roles on one base, optimizers and state, new or from a checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ppo.checks import check_reference_is_not_base
from ppo.config import PpoConfig, PromptSection
from ppo.guard.rollouts import RolloutGuard
from ppo.guard.sources import judge_runs
from ppo.inputs import read_sides
from ppo.people.spot_checks import SpotChecks
from ppo.rollout import Demonstrations, PromptSet
from ppo.sampler import Engine, open_engine
from ppo.state import Optimizers, State, resume
from workbench.data.batching import encode_demonstrations, encode_prompts
from workbench.data.readers import read_demonstrations
from workbench.data.records import Prompt
from workbench.data.rules import RowRules
from workbench.model.base import default_device
from workbench.model.heads import ScalarHead
from workbench.model.open import new_value_head, open_runs
from workbench.model.processes import Processes
from workbench.model.roles import Roles
from workbench.model.session import Session, Setup
from workbench.run.folder import RunFolder
from workbench.run.sections import Kernels
from workbench.run.tracking import NoTracker, Tracker


@dataclass(frozen=True)
class Data:
    """The data of a run, as token ids."""

    prompts: PromptSet
    heldout: PromptSet
    demonstrations: Demonstrations | None


@dataclass
class Run:
    """Everything that the loop uses."""

    config: PpoConfig
    folder: RunFolder
    roles: Roles
    engine: Engine
    optimizers: Optimizers
    state: State
    data: Data
    tracker: Tracker | NoTracker
    processes: Processes
    guard: RolloutGuard | None = None
    people: SpotChecks | None = None


def open_run(config: PpoConfig, setup: Setup, session: Session, rewards: list[RunFolder], data: Data) -> Run:
    """Open roles, optimizers and engine, and restore the checkpoint of a resumed run."""
    assert setup.start is not None
    judges = judge_runs(config.guard)
    roles = open_roles(
        setup.start,
        rewards,
        reference=None if config.model.reference is None else RunFolder.open(config.model.reference),
        judges=judges,
        base=config.model.base,
        kernels=config.model.kernels,
        value=config.model.value if config.train.advantage == "gae" else "none",
        activation_checkpointing=config.model.activation_checkpointing,
    )
    session.base_loaded(setup, roles, config.model)
    optimizers = Optimizers.of(roles, beta2=config.train.adam_beta2, eps=config.train.adam_eps)
    state = State(iteration=0, kl_coef=config.reward.kl_coef)
    if session.checkpoint is not None:
        state = resume(session.checkpoint, roles, optimizers)
    engine = open_engine(
        config.rollout.engine,
        roles,
        dtype=roles.lm_head.dtype,
        url=config.rollout.vllm_url,
        folder=session.folder.path / "vllm",
        processes=session.processes,
    )
    if session.processes.first:
        print(roles.summary())
    run = Run(
        config,
        session.folder,
        roles,
        engine,
        optimizers,
        state,
        data,
        session.tracker,
        session.processes,
    )
    run.guard = RolloutGuard(run, tuple(judges), rewards[0]) if judges else None
    run.people = SpotChecks(run) if config.spot_checks.annotate is not None else None
    return run


def reward_names(number: int) -> tuple[str, ...]:
    """The role of each reward model: reward_1 … reward_K."""
    return tuple(f"reward_{n}" for n in range(1, number + 1))


def open_roles(
    start: RunFolder,
    rewards: Sequence[RunFolder],
    *,
    base: str | None,
    kernels: Kernels = "auto",
    value: str,
    activation_checkpointing: bool,
    reference: RunFolder | None = None,
    judges: Mapping[str, RunFolder] | None = None,
) -> Roles:
    """Load a run's roles.

    Args:
        start: the run whose adapter the policy starts as.
        rewards: the reward runs, K ≥ 1.
        base: where the base is now; None: where `start` says.
        kernels: as in `model.kernels`.
        value: `adapter`: its own adapter and head, a copy of the first reward model's. `head`: a scalar head on the
            policy's hidden states, initialised to 0. `none`: no value model.
        activation_checkpointing: recompute activations in backward passes.
        reference: the run that the KL is to; None: `start`.
        judges: role → reward run, of the guard.

    Raises:
        WorkbenchError: from `open_runs`; the reference is the bare base.
    """
    names = reward_names(len(rewards))
    scoring = {**dict(zip(names, rewards, strict=True)), **(judges or {})}
    own = {"reference": start.path} if reference is None else {"policy": start.path, "reference": reference.path}
    roles = open_runs({**own, **{role: run.path for role, run in scoring.items()}}, base=base, kernels=kernels)
    check_reference_is_not_base(roles)
    if reference is None:
        roles.copy("reference", "policy")
    if value == "adapter":
        roles.copy(names[0], "value")
        roles.heads["value"] = new_value_head(roles.heads[names[0]])
    elif value == "head":
        head = ScalarHead(roles.heads[names[0]].weight.numel())
        head.weight.data.zero_()
        roles.heads["value"] = head.to(roles.device)
    if activation_checkpointing:
        roles.checkpoint_activations()
    return roles


def load_data(config: PpoConfig, tokenizer: PreTrainedTokenizerBase, files: dict[str, Path], rules: RowRules) -> Data:
    """Prompts, held-out prompts, and demonstrations if `train.ptx_coef` > 0, as token ids."""
    prompts, heldout = load_prompts(
        tokenizer, files["train"], files.get("heldout"), config.data, seed=config.run.seed, rules=rules
    )
    wanted = config.train.ptx_coef > 0
    demonstrations = load_demonstrations(tokenizer, files["demonstrations"], config, rules) if wanted else None
    return Data(prompts, heldout, demonstrations)


def load_prompts(
    tokenizer: PreTrainedTokenizerBase,
    train: Path,
    heldout: Path | None,
    section: PromptSection,
    *,
    seed: int,
    rules: RowRules | None = None,
) -> tuple[PromptSet, PromptSet]:
    """Training and held-out prompts.

    Raises:
        WorkbenchError: from the readers; nothing is left on one side; a held-out prompt is also a training prompt.
    """
    records, held_out = read_sides(train, heldout, share=section.heldout_share, seed=seed, rules=rules)

    def encoded(records: list[Prompt], path: Path) -> PromptSet:
        prompts = encode_prompts(tokenizer, records, max_length=section.max_prompt_length, source=path, rules=rules)
        return PromptSet([records[i] for i in prompts.kept], [row["prompt_ids"] for row in prompts.rows])

    return encoded(records, train), encoded(held_out, heldout or train)


def load_demonstrations(
    tokenizer: PreTrainedTokenizerBase, path: Path, config: PpoConfig, rules: RowRules
) -> Demonstrations:
    """Demonstrations for the auxiliary SFT loss; those longer than prompt and response may be are skipped and counted.

    Raises:
        WorkbenchError: from the readers; all are too long.
    """
    rows = encode_demonstrations(
        tokenizer,
        read_demonstrations(path, rules),
        max_length=config.data.max_prompt_length + config.rollout.max_new_tokens,
        source=path,
        rules=rules,
        limit_name="data.max_prompt_length + rollout.max_new_tokens",
    ).rows
    prompt_lengths = [len(row["completion_mask"]) - sum(row["completion_mask"]) for row in rows]
    return Demonstrations(
        [row["input_ids"][:n] for row, n in zip(rows, prompt_lengths, strict=True)],
        [row["input_ids"][n:] for row, n in zip(rows, prompt_lengths, strict=True)],
        config.train.minibatch_size,
        tokenizer.pad_token_id,
        default_device(),
    )
