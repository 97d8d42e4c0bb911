"""Warnings while a contrastive method trains: frequent failures, detected in the metrics, each with advice. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from ppo.watch import EOS_LEAST, LENGTH_MOST, WINDOW
from workbench.evaluate.metrics import kl_limit

Metrics = Mapping[str, float]


def warnings(training: Sequence[Metrics], evaluations: Sequence[Metrics]) -> Iterator[tuple[str, str]]:
    """Warnings that the metrics so far give reason for.

    Args:
        training: rows with `contrastive/chosen_logratio`, oldest first; the last `WINDOW` are looked at.
        evaluations: rows with `heldout/kl`, oldest first; the first one is from before training.

    Yields: (kind, sentence with numbers and advice).
    """
    if not evaluations:
        return
    first, last = evaluations[0], evaluations[-1]
    length, limit = last["heldout/length"], kl_limit(last["heldout/length"])
    fallen = [row["contrastive/chosen_logratio"] for row in training[-WINDOW:]]
    if len(fallen) == WINDOW and max(fallen) < -limit:
        yield (
            "chosen",
            f"chosen responses lost {-max(fallen):.1f} nats against the reference (more than {limit:.0f}): the policy "
            "moves away from both responses, to others that no pair judges. Raise loss.sft_coef or loss.beta, or "
            "lower train.lr.",
        )
    if last["heldout/kl"] > limit:
        yield (
            "kl",
            f"KL to the reference is {last['heldout/kl']:.1f} nats per response (above {limit:.0f}), far from the "
            "answers that were compared. Raise loss.beta, lower train.lr, or train for fewer steps.",
        )
    if length > LENGTH_MOST * first["heldout/length"]:
        yield (
            "length",
            f"answers grew from {first['heldout/length']:.0f} to {length:.0f} tokens: check whether chosen responses "
            "are longer than rejected ones, and set loss.length_coef, or use method=simpo or ipo.",
        )
    if length * LENGTH_MOST < first["heldout/length"]:
        yield (
            "length",
            f"answers shrank from {first['heldout/length']:.0f} to {length:.0f} tokens: check whether chosen responses "
            "are shorter than rejected ones, and raise loss.sft_coef or loss.beta.",
        )
    if last["heldout/eos_rate"] < EOS_LEAST * first["heldout/eos_rate"]:
        yield (
            "eos",
            f"the share of answers that end fell from {first['heldout/eos_rate']:.0%} to "
            f"{last['heldout/eos_rate']:.0%}: leave out chosen responses without an end, or raise loss.sft_coef.",
        )
