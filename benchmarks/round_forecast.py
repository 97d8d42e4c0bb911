"""Question: how often do the loop's forecasts hold, on gains whose true curve is known?

Simulated loops with the gold rewards of held-out prompts: a curve of true quality over rounds of equal labels, luck of
each training that stays in the later policies or not, and noise of answers. Measured: the share of 95 % intervals that
hold what the next round then measured, and the share that hold the true gain from the next 100 labels.

    python -m benchmarks.round_forecast
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import RESULTS, write_result
from workbench.evaluate.statistics import Floats
from workbench.loop.forecast import forecast

OUT = RESULTS / "round_forecast.json"
EXPECTED = "each interval holds in at least nine of ten cases on curves that flatten; not where gains accelerate"
Curve = Callable[[Floats], Floats]
CURVES: Mapping[str, Curve] = {
    "equal gains": lambda t: 0.05 * t,
    "logarithm": lambda t: 0.1 * np.log2(1 + t),
    "power law": lambda t: 0.25 * (1 - (1 + t) ** -0.5),
    "exponential, slow": lambda t: 0.3 * (1 - np.exp(-0.4 * t)),
    "exponential, fast": lambda t: 0.25 * (1 - np.exp(-1.2 * t)),
    "one round, then nothing": lambda t: 0.15 * np.minimum(t, 1),
    "a rise, then a fall": lambda t: 0.15 * np.minimum(t, 1) - 0.03 * np.maximum(t - 1, 0),
    "no gain": lambda t: 0 * t,
    "accelerating, then flat": lambda t: 0.3 * (1 / (1 + np.exp(3.3 - 1.5 * t)) - 1 / (1 + np.exp(3.3))),
}
"""Gold reward over the supervised model after t rounds."""
LUCK = (0.0, 0.015, 0.03)
"""Standard deviations of what one training adds by luck."""
PROMPTS, LABELS, PER_ROUND = 300, 100, 300
ANSWER_SD, PROMPT_SD = 0.2, 0.06
"""Of the mean answer to a prompt, and of the prompts' true gains in the last policy."""


def main(argv: list[str] | None = None) -> None:
    """Simulate and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loops", type=int, default=200, help="per curve, rounds and luck (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help="result (default: %(default)s)")
    arguments = parser.parse_args(argv)
    table = {
        name: {f"{rounds} rounds so far": coverage(curve, rounds, arguments.loops) for rounds in (1, 2, 3)}
        for name, curve in CURVES.items()
    }
    write_result(arguments.out, {"expected": EXPECTED, "loops": 2 * len(LUCK) * arguments.loops, "curves": table})


def coverage(curve: Curve, rounds: int, loops: int, *, seed: int = 0) -> dict[str, Any]:
    """Shares of intervals that hold and their mean widths, over all kinds of luck."""
    rng = np.random.default_rng(seed)
    rows = [
        simulated(curve, rounds, luck, lasting, rng) for luck in LUCK for lasting in (False, True) for _ in range(loops)
    ]
    names = ("measured_holds", "per_100_holds", "gain_shown", "measured_width", "per_100_width")
    return dict(zip(names, np.mean(rows, axis=0).round(4).tolist(), strict=True))


def simulated(
    curve: Curve, rounds: int, luck: float, lasting: bool, rng: np.random.Generator
) -> tuple[bool, bool, bool, float, float]:
    """One loop: whether its two intervals hold, whether a gain is shown, and the intervals' widths."""
    time = np.arange(rounds + 2.0)
    true = curve(time)
    chance = rng.normal(0, luck, len(time)) * (time > 0)
    shared = true + (np.cumsum(chance) if lasting else chance)
    by_prompt = np.outer(time / time[-1], rng.normal(0, PROMPT_SD, PROMPTS))
    values = shared[:, None] + by_prompt + rng.normal(0, ANSWER_SD, (len(time), PROMPTS))
    found = forecast(PER_ROUND * time[1:-1], values[1:-1] - values[0], PER_ROUND)
    happened = (values[-1] - values[-2]).mean()
    added = float(np.squeeze(curve(np.array([rounds + LABELS / PER_ROUND])) - curve(np.array([float(rounds)]))))
    whole, hundred = found.measured, found.per_100
    return (
        bool(whole.low <= happened <= whole.high),
        hundred.low <= added <= hundred.high,
        hundred.low > 0,
        whole.high - whole.low,
        hundred.high - hundred.low,
    )


if __name__ == "__main__":
    main()
