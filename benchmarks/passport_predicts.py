"""Claim: the passport of a reward model predicts what PPO makes of it, better than its held-out accuracy does.

Reward models on the tiny task differ in pairs, label noise, bias of the labels, LoRA rank, epochs and seed. Each one is
examined, then PPO without a KL penalty optimises against it, passed or not, and the gold reward of the policy is
measured on held-out prompts. Halves learn from other pairs. The passport's number is the best-of-16 slope by a judge,
which is fitted on sound labels of other pairs; its limit is set on half 0. Compared with held-out accuracy, `teaches`,
the number of failed checks, and a prediction from all four by least squares, with weights from the other half.

    python -m benchmarks.passport_predicts [--models 60] [--runs runs/passport_predicts]

Each call adds up to `--models` models and writes the figures of all so far; start it again and it goes on. About half a
minute per model on one idle core.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from benchmarks.guard_runs import World
from benchmarks.passport_models import HALVES, SPANS, Bench, spec_of
from benchmarks.record import RESULTS, spread, write_result
from reward.config import PassportSection
from reward.passport.judge import BEST_OF, JUDGED, Check, failed_names, mean_at_least
from reward.passport.samples import best_of_rises, best_of_slopes
from workbench.evaluate.statistics import Estimate, Floats

CLAIM = "the passport of a reward model predicts what PPO makes of it, better than its held-out accuracy does"
MODELS = 60
FEWEST = 12
"""Models per half from which the verdict's five numbers are fitted."""
GOOD, BETTER = 0.1, 0.05
"""Gain in gold reward from which a model is good; predicted gain below which least squares refuse it."""
FEATURES = ("accuracy", "teaches", "best_of_slope", "failed_checks")


def main(argv: list[str] | None = None) -> int:
    """Train models, then write the figures of all so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=MODELS, help="models to add, at most")
    parser.add_argument("--runs", type=Path, default=Path("runs/passport_predicts"))
    parser.add_argument("--out", type=Path, default=RESULTS / "passport_predicts.json")
    parser.add_argument("--set", nargs="*", default=[], help="for a trial: values of the PPO run")
    arguments = parser.parse_args(argv)
    bench = Bench(World.make(arguments.runs, SPANS), tuple(arguments.set))
    start = bench.start()
    missing = [spec for spec in map(spec_of, range(MODELS)) if not bench.file(spec).is_file()]
    for spec in missing[: arguments.models]:
        bench.add(spec)
    found = [
        json.loads(bench.file(spec).read_text()) for spec in map(spec_of, range(MODELS)) if bench.file(spec).is_file()
    ]
    if len(found) > 1:
        write_result(arguments.out, {"claim": CLAIM, **figures(found, start)})
    return 0


def figures(found: Sequence[dict[str, Any]], start: dict[str, Any]) -> dict[str, Any]:
    """What the passports predicted of the models so far.

    Args:
        found: one entry per model, as `Bench.add` writes it.
        start: gold reward and pool of the start run, as `Bench.start` writes it.
    """
    halves = {half: [model for model in found if model["half"] == half] for half in HALVES}
    every = [model for half in HALVES for model in halves[half]]
    gold, columns = golds_of(every), features(every)
    slopes = [pool_slope(model["pool_scores"], start["pool_gold"]) for model in every]
    ranked = {name: correlation_interval(columns[:, n], gold) for n, name in enumerate(FEATURES)}
    content = {
        "models": len(every),
        "models_by_half": {f"half {half}": len(models) for half, models in halves.items()},
        "rank_correlation": ranked["best_of_slope"][0],
        "accuracy_alone": ranked["accuracy"][0],
        "best_of_limit": {"shipped": PassportSection().best_of, "of_half_0": lowest_good(halves[0], start["gold"])},
        "start": {name: round(start[name], 4) for name in ("gold", "gold_error")},
        "final_gold": spread([round(model["gold"], 3) for model in every]),
        "gold_error": round(float(np.mean([model["gold_error"] for model in every])), 4),
        "spearman_over_all": {
            **ranked,
            "best_of_slope_by_gold": correlation_interval(slopes, gold),
        },
        "best_of_slope_above_accuracy": difference_interval(columns[:, 2], columns[:, 0], gold),
        "refusals": {
            name: {rule: wrong_refusals(no, golds_of(models) - start["gold"]) for rule, no in rules(models).items()}
            for name, models in (("all", every), ("half 0", halves[0]), ("half 1", halves[1]))
            if models
        },
    }
    if min(map(len, halves.values())) < FEWEST:
        return content | {"least_squares": f"not fitted: fewer than {FEWEST} models in a half"}
    predictions = {half: prediction(halves[1 - half], halves[half]) for half in HALVES}
    return content | {
        "half_1_with_weights_of_half_0": predicted(halves[1], predictions[1], start["gold"]),
        "half_0_with_weights_of_half_1": predicted(halves[0], predictions[0], start["gold"]),
        "all_with_weights_of_the_other_half": predicted(
            every, np.concatenate([predictions[half] for half in HALVES]), start["gold"]
        ),
        "weights_of_half_0": dict(zip(("constant", *FEATURES), fit(halves[0]).round(3).tolist(), strict=True)),
    }


def lowest_good(models: Sequence[dict[str, Any]], start: float) -> float | None:
    """The slope of the good model with the smallest one: the largest limit that refuses no good model."""
    good = features(models)[golds_of(models) - start >= GOOD, 2]
    return round(float(good.min()), 3) if len(good) else None


def golds_of(models: Sequence[dict[str, Any]]) -> Floats:
    """(M,) final gold reward."""
    return np.array([model["gold"] for model in models])


def features(models: Sequence[dict[str, Any]]) -> Floats:
    """(M, 4) what least squares predict from, in the order of `FEATURES`."""
    return np.array(
        [
            [*(model[name]["mean"] for name in FEATURES[:3]), float(sum(c.outcome == "fail" for c in checks_of(model)))]
            for model in models
        ]
    )


def fit(models: Sequence[dict[str, Any]]) -> Floats:
    """(5,) constant and weights of the features by least squares on the final gold reward."""
    columns = np.column_stack([np.ones(len(models)), features(models)])
    weights: Floats = np.linalg.lstsq(columns, golds_of(models), rcond=None)[0]
    return weights


def prediction(fitted: Sequence[dict[str, Any]], models: Sequence[dict[str, Any]]) -> Floats:
    """(M,) final gold reward of models as predicted with the weights of others."""
    weights = fit(fitted)
    predictions: Floats = weights[0] + features(models) @ weights[1:]
    return predictions


def predicted(models: Sequence[dict[str, Any]], predictions: Floats, start: float) -> dict[str, Any]:
    """Rank correlations with the final gold reward, and what least squares refuse.

    Args:
        models: M of them.
        predictions: (M,) final gold reward as predicted with the weights of other models.
        start: gold reward of the start run.
    """
    gold, columns = golds_of(models), features(models)
    accuracy = columns[:, 0]
    refused = [bool(value < start + BETTER) for value in predictions]
    return {
        "spearman": {
            **{name: correlation_interval(columns[:, n], gold) for n, name in enumerate(FEATURES)},
            "least_squares": correlation_interval(predictions, gold),
        },
        "best_of_slope_above_accuracy": difference_interval(columns[:, 2], accuracy, gold),
        "least_squares_above_accuracy": difference_interval(predictions, accuracy, gold),
        "refusals_of_least_squares": wrong_refusals(refused, gold - start),
    }


def rules(models: Sequence[dict[str, Any]]) -> dict[str, list[bool]]:
    """Rule → which models it refuses."""
    return {
        "passport without a judge": [bool(failed_names(checks_of(model))) for model in models],
        "passport with a judge": [bool(failed_names([*checks_of(model), judged(model)])) for model in models],
    }


def checks_of(model: dict[str, Any]) -> list[Check]:
    """The checks of a model's passport without the one by the judge."""
    return [Check(**check) for check in model["checks"] if check["name"] != JUDGED]


def judged(model: dict[str, Any]) -> Check:
    """The check by the judge, with the shipped limit."""
    return mean_at_least(JUDGED, Estimate(**model["best_of_slope"]), PassportSection().best_of, BEST_OF)


def wrong_refusals(refused: Sequence[bool], gains: Floats) -> dict[str, Any]:
    """Good models that a rule refuses, and bad ones that it passes."""
    good, bad, no = gains >= GOOD, gains < 0, np.array(refused)
    return {
        "good": int(good.sum()),
        "good_refused": int((good & no).sum()),
        "bad": int(bad.sum()),
        "bad_passed": int((bad & ~no).sum()),
    }


def spearman(left: ArrayLike, right: ArrayLike) -> float:
    """Rank correlation; 0 if one side does not vary."""
    ranks = rankdata(left), rankdata(right)
    return 0.0 if min(rank.std() for rank in ranks) == 0 else float(np.corrcoef(*ranks)[0, 1])


def correlation_interval(values: ArrayLike, gold: Floats) -> list[float]:
    """Spearman's correlation with the 95 % interval of a bootstrap over models."""
    array = np.asarray(values)
    return with_interval(lambda drawn: spearman(array[drawn], gold[drawn]), len(gold))


def difference_interval(ours: Floats, theirs: Floats, gold: Floats) -> list[float]:
    """Spearman's correlation of one predictor less that of another, with its interval."""
    return with_interval(
        lambda drawn: spearman(ours[drawn], gold[drawn]) - spearman(theirs[drawn], gold[drawn]), len(gold)
    )


def with_interval(statistic: Callable[[NDArray[np.int64]], float], count: int) -> list[float]:
    """[value, low, high] of a statistic of drawn models."""
    rng = np.random.default_rng(0)
    draws = [statistic(rng.integers(count, size=count)) for _ in range(1000)]
    return [round(float(value), 3) for value in (statistic(np.arange(count)), *np.quantile(draws, [0.025, 0.975]))]


def pool_slope(scores: Sequence[Sequence[float]], yardstick: Sequence[Sequence[float]]) -> float:
    """Best-of-16 slope on the pool with another yardstick: with the gold reward, what a perfect judge would show."""
    return float(best_of_slopes(best_of_rises(np.array(scores), np.array(yardstick))).mean())


if __name__ == "__main__":
    raise SystemExit(main())
