"""Contrastive post-training: preference pairs → a policy, without a reward model.

read pairs → log-probabilities of the frozen reference, once → train → measure on held-out pairs → save
"""

from functools import partial
from typing import Any

from ppo.config import ContrastiveConfig
from ppo.contrastive import answers
from ppo.contrastive.data import PairData, load_data, with_reference
from ppo.contrastive.evaluate import Watch, evaluate_pairs
from ppo.contrastive.refresh import Refresh
from ppo.contrastive.trainer import make_trainer
from ppo.guard.answers import AnswerGuard
from ppo.guard.guard import rollback_text
from ppo.guard.sources import judge_runs
from ppo.inputs import check_contrastive_inputs
from workbench.data.rules import RowRules
from workbench.model.adapters import lora_config, start_training_adapter
from workbench.model.base import load_base
from workbench.model.roles import Roles
from workbench.model.session import Session, Setup, open_session, prepare
from workbench.model.training import save_trained_adapter
from workbench.run.card import write_card
from workbench.run.divergence import require_finite
from workbench.run.errors import check_all
from workbench.run.folder import RunFolder
from workbench.run.out_of_memory import DOCTOR, SMALLER_STEP, memory_hint


def train(config: ContrastiveConfig, *, resume: bool) -> RunFolder:
    """Run the phase."""
    check_all(check_contrastive_inputs, config, resume=resume)
    setup = prepare(config)
    section = config.data
    names = {"train": section.train, "heldout": section.heldout, "mix": section.mix, "refresh": section.refresh}
    files = setup.files(names)
    rules = RowRules(config.data.ignore, config.data.bad_rows)
    data = (answers.load_data if config.method == "kto" else load_data)(config, setup.tokenizer, files, rules)
    session = open_session(
        setup,
        config,
        "ppo",
        resume=resume,
        parents={"start": config.model.start} | {r: str(run.path) for r, run in judge_runs(config.guard).items()},
        files=files,
        rules=rules,
        method=config.method,
        pairs=data.counts,
    )
    if not session.finished:
        if config.method == "kto" and (advice := answers.balance_advice(config, data.counts)):
            session.say(advice)
        with session.running():
            results = _train(config, setup, session, data)
        accuracy, low, high = (results[f"heldout/accuracy{end}"] for end in ("", "_low", "_high"))
        session.say(
            f"held-out accuracy {accuracy:.3f} (95 % {low:.3f} to {high:.3f}, {results['heldout/pairs']} pairs)"
        )
    setup.processes.close()
    return session.folder


@memory_hint("in a training step", f"{SMALLER_STEP}. {DOCTOR}")
def _train(config: ContrastiveConfig, setup: Setup, session: Session, data: PairData) -> dict[str, float]:
    """Train, measure and save."""
    assert setup.start is not None
    model = start_training_adapter(load_base(setup.spec, setup.tokenizer), lora_config(1, 1, 0.0), setup.start.adapter)
    roles, size = Roles(model, setup.tokenizer), config.train.micro_batch_size
    session.base_loaded(setup, roles, config.model)
    kto = config.method == "kto"
    train_sides, sides = (answers.SIDES, ("answer",)) if kto else (("chosen", "rejected"),) * 2
    rows = with_reference(session, roles, data.train, "reference", batch_size=2 * size, sides=train_sides)
    heldout = with_reference(session, roles, data.heldout, "reference_heldout", batch_size=2 * size, sides=sides)
    trainer = (answers.make_trainer if kto else make_trainer)(config, session, model, setup.tokenizer, rows)
    if config.data.refresh is not None:
        read: Any = trainer.train_dataset  # the list itself
        trainer.add_callback(Refresh(config, session, roles, setup.start, data, read))
    guard = partial(AnswerGuard, config.guard, trainer, session, roles, rows) if config.guard.judge else None
    if config.evaluation.every:
        trainer.add_callback(Watch(config, session, roles, setup.start, data.heldout_prompts, guard))
    trainer.train(resume_from_checkpoint=session.resume_from)
    measure = answers.evaluate_answers if kto else evaluate_pairs
    results = measure(roles, heldout, data.heldout_groups, config)
    session.tracker.log(results, trainer.state.global_step)
    require_finite(session.folder, "at its end", {name: results[name] for name in ("heldout/loss", "heldout/margin")})
    if session.processes.first:
        save_trained_adapter(model, setup.tokenizer, session.folder.adapter)
        about = (
            f"{config.method.upper()} on {'rated answers' if kto else 'preference pairs'}, from a supervised adapter."
        )
        write_card(session.folder, about=about + rollback_text(session.folder), results=results)
    return results
