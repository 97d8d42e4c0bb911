"""Configuration of post-training: PPO against a reward model, or contrastive on preference pairs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field

from workbench.run.config import Section, read_values
from workbench.run.errors import WorkbenchError, did_you_mean
from workbench.run.sections import (
    CheckpointSection,
    Names,
    NonNegativeFloat,
    NonNegativeInt,
    OptimizerSection,
    PairSection,
    PositiveFloat,
    PositiveInt,
    RowsSection,
    RunSection,
    Share,
    StartSection,
    Temperature,
    TrackingSection,
)

Contrastive = Literal["dpo", "hinge", "ipo", "slic", "simpo", "orpo", "sft", "kto"]
METHODS = ("ppo", *get_args(Contrastive))


class PolicyStartSection(StartSection):
    """The runs that PPO starts from."""

    reference: str | None = None
    """The sft run (or policy) that the KL is to and that spot checks compare with, such as the supervised model behind
    a policy that is trained on. None: `start`."""
    reward: Names
    """The reward run (one model or an ensemble), or several on one base: the score is the mean over all models. The
    value model starts as a copy of the first."""
    force: bool = False
    """Train although a reward run has no passport that passes; recorded in run.json and in the model card."""
    value: Literal["adapter", "head"] = "adapter"
    """`adapter`: a separate value model on the shared base. `head`: a scalar head on the policy's hidden states, which
    starts at 0 and saves one forward and backward pass."""


class PromptSection(RowsSection):
    """The prompts that the policy answers."""

    train: str
    """Prompts in any form of docs/data.md, or `tiny:prompts`."""
    heldout: str | None = None
    """Prompts for held-out evaluation and samples. None: hold out `heldout_share` of the training prompts."""
    heldout_share: Share = 0.05
    """Share of the training prompts that is held out if `heldout` is not given."""
    max_prompt_length: PositiveInt = 512
    """Tokens; longer prompts are skipped and counted."""
    demonstrations: str | None = None
    """Demonstrations for the auxiliary SFT loss (PPO-ptx, `train.ptx_coef`), in any form of docs/data.md."""


class RolloutSection(Section):
    """Sampling of responses."""

    batch_size: PositiveInt = 128
    """Responses (episodes) per iteration."""
    micro_batch_size: PositiveInt = 128
    """Responses per forward pass when they are scored."""
    sample_batch_size: PositiveInt | None = None
    """Responses sampled in one batch; None: `micro_batch_size`. On a GPU a step takes about as long for 128 responses
    as for 16, so use as many as fit into memory (`python -m workbench doctor`). A vLLM server gets all at once."""
    max_new_tokens: PositiveInt = 128
    """Largest number of tokens per response."""
    temperature: Temperature = 1.0
    """Sampling temperature; log-probabilities are of the same tempered distribution."""
    responses_per_prompt: PositiveInt = 1
    """Responses to each prompt per iteration; `train.advantage` rloo and grpo need at least 2."""
    engine: Literal["auto", "transformers", "merged", "vllm"] = "auto"
    """`transformers` in this process, a `merged` copy of the policy, or a `vllm` server at `vllm_url`. `auto`: the
    fastest one that needs no more memory (docs/decisions/0007)."""
    vllm_url: str = "http://127.0.0.1:8000"
    """Address of the vLLM server."""
    importance_cap: NonNegativeFloat = 0.0
    """Truncated importance weights for an engine whose probabilities differ slightly from the policy's (vllm): each
    token's advantage is multiplied by min(π_old / π_engine, cap). 0: no weights."""

    @property
    def sampled_at_once(self) -> int:
        """`sample_batch_size`, or its default."""
        return self.sample_batch_size or self.micro_batch_size


class RewardSection(Section):
    """From the reward model's score to a reward per token."""

    kl_coef: NonNegativeFloat = 0.05
    """Weight of the per-token KL penalty against the reference."""
    kl_in: Literal["reward", "loss"] = "reward"
    """`reward`: a penalty on each token's reward, which the advantages include. `loss`: a term of the policy's loss."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k1"
    """Estimator of the KL at a sampled token; see ppo/kl.py. `kl_in: loss` needs k2 or k3."""
    kl_target: NonNegativeFloat = 0.0
    """Target of the adaptive coefficient, nats per response; 0 keeps the coefficient fixed."""
    kl_horizon: PositiveFloat = 10_000.0
    """Episodes over which the adaptive coefficient reacts: longer is slower."""
    missing_eos_score: float | None = -1.0
    """Score of a response without EOS; null keeps the model's score."""
    score_clip: NonNegativeFloat = 5.0
    """Largest magnitude of a score; 0 clips nothing."""
    std_coef: NonNegativeFloat = 0.0
    """The score is the mean over the reward models minus `std_coef` times their standard deviation."""
    length_penalty: NonNegativeFloat = 0.0
    """Score units per response token."""
    sign: Literal[1, -1] = 1
    """−1 minimises the score: a negative control (benchmarks/negative_controls.py)."""
    whiten: bool = False
    """Scale rewards to deviation 1, keeping their mean."""
    gamma: Share = 1.0
    """Discount per token, γ."""
    gae_lambda: Share = 0.95
    """λ of generalised advantage estimation."""


class PpoSection(Section):
    """The updates."""

    iterations: PositiveInt = 100
    """Rollouts, each followed by its updates."""
    advantage: Literal["gae", "rloo", "grpo"] = "gae"
    """`gae`: with a value model. `rloo`, `grpo`: relative to the other responses to the prompt, without one."""
    ppo_epochs: PositiveInt = 2
    """Passes over each rollout."""
    minibatch_size: PositiveInt = 64
    """Responses per optimizer step."""
    micro_batch_size: PositiveInt = 64
    """Responses per forward and backward pass; must divide minibatch_size."""
    lr: PositiveFloat = 1e-5
    """Learning rate of the policy; decays linearly to 0."""
    value_lr: PositiveFloat = 5e-5
    """Learning rate of the value model; decays linearly to 0."""
    warmup_iterations: NonNegativeInt = 0
    """Iterations in which a learning rate rises from 0, counted from the first update of the policy or value model."""
    value_only_iterations: NonNegativeInt = 0
    """First iterations, which train the value model only: its explained variance starts far below 0."""
    clip_range: PositiveFloat = 0.2
    """The probability ratio is clipped to 1 ± this."""
    value_clip_range: PositiveFloat = 0.2
    """New values are clipped to the old ones ± this."""
    value_coef: NonNegativeFloat = 0.1
    """With `model.value: head`: weight of the value loss in the shared trunk; 0 trains only the head."""
    entropy_coef: NonNegativeFloat = 0.0
    """Weight of the entropy bonus in the policy's loss; 0: none."""
    ptx_coef: NonNegativeFloat = 0.0
    """Weight of the auxiliary SFT loss on `data.demonstrations` (PPO-ptx); 0: none."""
    target_kl: NonNegativeFloat = 0.01
    """Largest KL of one iteration's move, nats per token: there the policy's updates stop, and the move is shortened to
    it. 0: no limit."""
    stop_kl: NonNegativeFloat = 200.0
    """Stop the run as diverged when the KL to the reference exceeds it, nats per response; 0: no limit."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradients of each model are clipped to this norm."""
    adam_eps: PositiveFloat = 1e-5
    """AdamW's ε."""
    adam_beta2: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """AdamW's β₂."""


class PpoCheckpointSection(CheckpointSection):
    """How often a run is saved, and which checkpoints are kept."""

    keep_best: NonNegativeInt = 0
    """Checkpoints with the best held-out reward (score minus KL penalty) kept in addition to the last ones. Each holds
    the policy as a plain adapter."""


class EvaluationSection(Section):
    """Held-out evaluation during training."""

    every: NonNegativeInt = 10
    """Iterations between two evaluations; 0: only before and after training."""
    prompts: PositiveInt = 64
    """Held-out prompts per evaluation, always the same ones."""


class GuardSection(Section):
    """The guard against over-optimisation (docs/guard.md)."""

    judge: Names = ()
    """Reward runs fitted on labels that nothing in this run learns from; they judge the policy's answers while it
    trains. None: no guard."""
    act: Literal["say", "beta", "stop"] = "stop"
    """When the guard sees over-optimisation: only say so; raise the KL penalty (`reward.kl_coef`, or `loss.beta` of
    dpo, hinge, ipo and kto) by `beta_factor`; or stop and go back to the best policy that it has seen."""
    beta_factor: Annotated[float, Field(gt=1)] = 1.5
    """For `act: beta`: what the weight is multiplied with at each alarm."""
    threshold: PositiveFloat = 1.0
    """Risk at which the guard acts. Lower: earlier, with more false alarms."""


class PpoGuardSection(GuardSection):
    """The guard against over-optimisation in PPO, which reads the answers of rollouts."""

    every: PositiveInt = 1
    """Iterations between two observations."""


class SpotCheckSection(Section):
    """Blind comparisons of policy and start policy by people while PPO trains (docs/people-in-ppo.md)."""

    annotate: str | None = None
    """YAML of `python -m annotate`, which names the label store and how its page asks. None: no spot checks."""
    every: PositiveInt = 10
    """Iterations between two checks."""
    pairs: PositiveInt = 12
    """Pairs that people compare at each check: a quarter is random, of the others the reward model is surest."""
    pause: bool = True
    """Pause the run when people prefer the start policy while the reward rises; otherwise only warn."""
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Probability, over the whole run, of an alarm about a policy that people prefer as often as they should."""


class PpoTrackingSection(TrackingSection):
    """Where metrics go. An iteration is long, so each one is logged by default."""

    log_every: PositiveInt = 1
    """Iterations between two rows of metrics; the first and the last are always logged."""


class PpoConfig(Section):
    """Everything `python -m ppo` reads when `method` is ppo."""

    method: Literal["ppo"] = "ppo"
    """PPO; other methods have a reference of their own, configs/reference/contrastive.yaml."""
    run: RunSection
    model: PolicyStartSection
    data: PromptSection
    rollout: RolloutSection = RolloutSection()
    reward: RewardSection = RewardSection()
    train: PpoSection = PpoSection()
    evaluation: EvaluationSection = EvaluationSection()
    checkpoint: PpoCheckpointSection = PpoCheckpointSection()
    guard: PpoGuardSection = PpoGuardSection()
    spot_checks: SpotCheckSection = SpotCheckSection()
    tracking: PpoTrackingSection = PpoTrackingSection()


class ContrastiveDataSection(PairSection):
    """Preference pairs, or for kto rated answers, of one or two sources."""

    mix: str | None = None
    """A second file to train on, such as people's labels in addition to automatic pairs. Its held-out records are left
    out, and so are the prompts that are held out of `train`."""
    mix_weight: PositiveFloat = 1.0
    """Weight of a record of `mix`, if one of `train` weighs 1."""
    refresh: str | None = None
    """A configuration of `python -m ppo pairs`. At the start of each epoch but the first, its ladder is sampled again
    with the policy of that moment in place of `ladder.start`, and the epoch trains on equally many of the new pairs."""


class LossSection(Section):
    """The contrastive loss."""

    beta: PositiveFloat = 0.1
    """dpo, hinge, simpo, kto: scale of the (gap of) log-ratios. slic: the same of log-probabilities, 1/δ of the paper.
    ipo: the regularisation τ. orpo: weight of the odds ratio, λ of the paper."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Assumed share of labels that name the wrong side (cDPO)."""
    unbiased: bool = False
    """Correct for that share instead of smoothing (rDPO): the loss averages to that of the true labels."""
    soft_labels: bool = False
    """Fit the `probability` of each pair that has one, in place of a certain label times its `weight`."""
    margin: NonNegativeFloat = 0.0
    """By how much the gap has to exceed 0, for each level of strength (ODPO); γ of SimPO, where strength is 1."""
    length_coef: NonNegativeFloat = 0.0
    """Per token by which the chosen response is longer, added to the gap: length alone earns nothing (R-DPO)."""
    sft_coef: NonNegativeFloat = 0.0
    """Weight of the likelihood of the chosen response per token (RPO, Pang et al. 2024; λ of SLiC-HF; 1 in ORPO). It is
    all that `sft` trains on."""
    desirable_weight: PositiveFloat = 1.0
    """kto: λ_D, the weight of desirable answers."""
    undesirable_weight: PositiveFloat = 1.0
    """kto: λ_U. The paper wants λ_D · desirable answers ÷ (λ_U · undesirable ones) between 1 and 4/3."""


class CurriculumSection(Section):
    """The order in which pairs are drawn (Xu et al. 2023, arXiv:2310.02263)."""

    schedule: Literal["mixed", "linear", "step", "reversed", "hard"] = "mixed"
    """Hard pairs: as often as they are in the data; ever more often (`linear`); from half-way on (`step`); ever less
    often (`reversed`); always (`hard`). A pair is hard if its `difficulty` is above the median."""
    power: PositiveFloat = 1.0
    """linear, reversed: exponent of the progress; above 1 the hard pairs come later."""


class WatchSection(Section):
    """Answers to held-out prompts while a contrastive method trains."""

    every: NonNegativeInt = 0
    """Optimizer steps between two evaluations, in addition to those before and after training; 0: none at all."""
    prompts: PositiveInt = 64
    """Held-out prompts per evaluation, always the same ones."""
    max_new_tokens: PositiveInt = 128
    """Largest number of tokens per answer."""
    reward: str | None = None
    """Reward run that judges the answers against those of the start run; None: no win rate."""


class ContrastiveConfig(Section):
    """Everything `python -m ppo` reads when `method` is a contrastive one."""

    method: Contrastive
    """The contrastive loss."""
    run: RunSection
    model: StartSection
    data: ContrastiveDataSection
    loss: LossSection = LossSection()
    curriculum: CurriculumSection = CurriculumSection()
    evaluation: WatchSection = WatchSection()
    train: OptimizerSection = OptimizerSection()
    checkpoint: CheckpointSection = CheckpointSection()
    guard: GuardSection = GuardSection()
    tracking: TrackingSection = TrackingSection()


def method_of(path: Path, overrides: Sequence[str]) -> str:
    """The method that a configuration asks for: it decides which class reads the rest.

    Raises:
        WorkbenchError: the file cannot be read, or the method is unknown.
    """
    method = str(read_values(path, overrides).get("method", "ppo"))
    if method not in METHODS:
        raise WorkbenchError(
            "method", f"{method!r} is unknown", expected=", ".join(METHODS), remedy=did_you_mean(method, METHODS)
        )
    return method
