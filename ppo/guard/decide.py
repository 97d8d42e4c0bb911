"""How the guard decides: from the observations so far to a risk with its reasons. Pure.

Each signal is 0 while all is well, and grows as it looks worse. The risk is the Euclidean norm of the signals that have
a limit, in units of their limits: one at its limit is an alarm, two at 0.71 of theirs are. How the limits were found:
docs/guard.md.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ppo.guard.signals import Law, fit_law
from workbench.evaluate.metrics import kl_limit

if TYPE_CHECKING:
    from ppo.config import GuardSection

Row = Mapping[str, Any]
"""An observation's row in guard.jsonl."""

WINDOW = 3
"""Neighbouring observations that are averaged, and those between two raised penalties. An alarm by a signal that
compares with earlier observations needs more than this many."""
FEWEST = 2
"""Fewest observations before an alarm by one of LEVELS; the first is of the start policy, which has learnt nothing."""
LEVELS = ("disagreement", "agreement")
"""Signals that mean the same whatever was observed before."""
LIMITS: Mapping[str, float] = {"disagreement": 0.41, "agreement": 0.057, "judge": 0.28, "kl": 3.1}
"""Signal that decides → value at which it is an alarm by itself; measured on sound runs (benchmarks/guard.py). The
other signals are only recorded: there, they stopped more sound runs and found no more hacked ones."""
LITTLE_KL = 0.1
"""KL, in units of its usual limit, from which growth is measured: what is smaller may grow by any factor."""
WORTH_SAYING = 0.3
"""Signals below this share of their limit are not named as reasons."""


@dataclass(frozen=True)
class Decision:
    """What the guard does after an observation."""

    action: str
    """`go on`, or at an alarm `say`, `beta` or `stop`."""
    risk: float
    """Norm of the signals that have a limit, in units of their limits."""
    signals: dict[str, float]
    law: Law | None
    why: str
    """The risk and its reasons, in words."""
    back_to: int | None = None
    """Step of the policy to go back to; None unless `stop`."""

    def row(self) -> dict[str, Any]:
        """For guard.jsonl."""
        return {**asdict(self), "law": None if self.law is None else _finite(asdict(self.law))}


def decide(rows: Sequence[Row], section: "GuardSection", limits: Mapping[str, float] = LIMITS) -> Decision:
    """What to do after the newest observation.

    Args:
        rows: observations, oldest first, with the decisions before; the first one is of the start policy.
        section: what to do, and at which risk.
        limits: signal that decides → its limit.
    """
    found, law = signals(rows), law_of(rows)
    parts = {name: max(value, 0.0) / limits[name] for name, value in found.items() if name in limits}
    risk, best = math.hypot(*parts.values()), rows[best_of(rows)]["step"]
    named = sorted((name for name in parts if parts[name] >= WORTH_SAYING), key=lambda name: -parts[name])
    reasons = [f"{_in_words(name, found[name], best)} ({parts[name]:.2f})" for name in named]
    why = f"risk {risk:.2f} of {section.threshold:g}: {'; '.join(reasons) or 'nothing of note'}"
    if risk < section.threshold or len(rows) < FEWEST:
        return Decision("go on", risk, found, law, why)
    if section.act == "stop":
        return Decision("stop", risk, found, law, f"{why}. Back to step {best}, the judges' best", best)
    resting = any(row.get("action") == "beta" for row in rows[-WINDOW - 1 : -1])  # a raised penalty takes time to work
    return Decision("say" if resting else section.act, risk, found, law, why)


def signals(rows: Sequence[Row]) -> dict[str, float]:
    """Each signal of the newest observation, by name. Only LEVELS while there are at most WINDOW observations.

        disagreement  1 − correlation over answers of the reward model's score with the judges'; in PPO only
        judge         fall of the judges' score from its best, σ
        gap           the same fall plus the reward model's rise since then, σ; in PPO only
        law           −slope of Gao's law at the newest √KL, standard errors
        agreement     −correlation over answers of log π − log ρ with the judges' score; in contrastive training only
        spread        rise of the deviation over all reward models, share of its first value
        outliers      share of answers unlike the labelled ones
        length        |log ratio| of the mean length to its first value
        entropy       fall of the entropy, share of its first value
        kl            KL to the reference in units of its usual limit, if it grows by the newest factor once more

    Args:
        rows: observations, oldest first; each signal but `law` and `kl` is of the mean of the last WINDOW.
    """
    first, last = rows[0], rows[-WINDOW:]

    def now(name: str) -> float:
        return float(np.mean([row[name] for row in last]))

    law, best = law_of(rows), best_of(rows)
    around = rows[max(best - 1, 0) : best + 2]

    def since_best(name: str) -> float:
        return now(name) - float(np.mean([row[name] for row in around]))

    found = {
        "judge": -since_best("judge"),
        "law": law.falling if law is not None else 0.0,
        "spread": now("spread") / first["spread"] - 1 if first["spread"] > 0 else 0.0,
        "outliers": now("outliers"),
        "length": abs(math.log(now("length") / first["length"])),
        "entropy": 1 - now("entropy") / first["entropy"] if first["entropy"] > 0 else 0.0,
        "kl": _next_kl(rows),
    }
    if first.get("score") is None:
        found["agreement"] = -now("agreement")
    else:  # a fast PPO run soon has log ratios that agree with no score, while its answers get better
        found["gap"] = since_best("score") - since_best("judge")
        known = [row["reward_agreement"] for row in last if row["reward_agreement"] is not None]
        found["disagreement"] = 1 - float(np.mean(known)) if known else 0.0
    return found if len(rows) > WINDOW else {name: found[name] for name in LEVELS if name in found}


def best_of(rows: Sequence[Row]) -> int:
    """Index of the observation whose neighbourhood (itself and both neighbours) the judges score best.

    The newest observation has no later neighbour yet and is never the best. So a best one is replaced by better ones
    only, and no policy has to be kept but the best and the newest.
    """
    means = [np.mean([row["judge"] for row in rows[max(i - 1, 0) : i + 2]]) for i in range(max(len(rows) - 1, 1))]
    return int(np.argmax(means))


def law_of(rows: Sequence[Row]) -> Law | None:
    """Gao's law of the judges' score against √KL; None if there are too few observations."""
    distances = np.sqrt(np.maximum([row["kl"] for row in rows], 0.0))
    return fit_law(distances, np.array([row["judge"] - rows[0]["judge"] for row in rows]))


def _next_kl(rows: Sequence[Row]) -> float:
    """KL at the next observation, in units of its usual limit; KL multiplies from one to the next in a collapse."""
    both = (rows[max(len(rows) - 2, 0)], rows[-1])
    before, newest = (row["kl"] / kl_limit(row["length"]) for row in both)
    return float(newest * max(newest / max(before, LITTLE_KL), 1.0))


def _in_words(name: str, value: float, best: int) -> str:
    """A signal as a clause."""
    return {
        "disagreement": f"the reward model and the judges score the answers differently (correlation {1 - value:.2f})",
        "agreement": f"the policy prefers answers that the judges score lower (correlation {-value:.2f})",
        "judge": f"the judges' score fell {value:.2f} σ from its best, at step {best}",
        "kl": f"KL is on its way to {value:.1f} times its usual limit",
    }[name]


def _finite(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """Infinite values as None, which JSON can hold."""
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}
