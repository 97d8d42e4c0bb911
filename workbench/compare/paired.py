"""Paired statistics of methods over the same prompts and seeds. Pure.

A method's values form a matrix: one row per seed (its own supervised run, labels and training), one column per held-out
prompt. Seeds and prompts are both drawn from larger populations, so both add to the error of a difference.

Shapes: M = methods, S = seeds, G = prompts, K = A answers to a prompt.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from workbench.evaluate.statistics import Floats

LEVEL = 0.05
"""Two-sided level of all tests; intervals cover 1 − LEVEL."""
BISECTIONS = 30
"""Steps in the search for a p-value, which starts between 1e-12 and 1."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and prompts with its interval and its test against 0. Arrays have the leading shape."""

    mean: Floats
    low: Floats
    high: Floats
    p: Floats
    """Two-sided p-value of a mean of 0."""


def interval(values: Floats) -> Interval:
    r"""Mean of (…, S, G) paired values over seeds and prompts.

        mean ± √(t²(S − 1) · SE²_seeds + t²(G − 1) · SE²_prompts)

    SE_seeds is the standard error of the S means over prompts (Student). SE_prompts is the bootstrap's standard error
    over prompts of the means over seeds, which for a mean has a closed form. The noise of single answers is in both
    terms, so the interval is slightly too wide. With one seed, only prompts count.

    Source: two errors with their own degrees of freedom: Zou and Donner 2008, Statistics in Medicine 27(10) (MOVER).
    One t with Welch's and Satterthwaite's degrees of freedom is too narrow with two or three seeds.
    """
    seeds = values.shape[-2]
    spread = values.mean(-1).var(-1, ddof=1) if seeds > 1 else np.zeros(values.shape[:-2])
    return _over_seeds(values, spread / seeds, seeds - 1)


def _over_seeds(values: Floats, seed_variance: Floats, freedom: int) -> Interval:
    """The interval of (…, S, G) values with a given squared standard error over seeds and its degrees of freedom."""
    prompts = values.shape[-1]
    return combined(values.mean((-2, -1)), seed_variance, freedom, values.mean(-2).var(-1) / prompts, prompts - 1)


def combined(
    mean: Floats, seed_variance: Floats, seed_freedom: int, prompt_variance: Floats, prompt_freedom: int
) -> Interval:
    """`interval` from squared standard errors over seeds and over prompts, with the degrees of freedom of each."""
    parts = (seed_variance, seed_freedom, prompt_variance, prompt_freedom)
    low, high = np.full(np.shape(mean), -12.0), np.zeros(np.shape(mean))  # of log₁₀ p, by bisection
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        wider = _half_width(10**middle, *parts) > np.abs(mean)
        low, high = np.where(wider, middle, low), np.where(wider, high, middle)
    p = np.where(mean == 0, 1.0, 10**high)
    half = _half_width(LEVEL, *parts)
    return Interval(mean, mean - half, mean + half, p)


def _half_width(
    level: Floats | float, seed_variance: Floats, seed_freedom: int, prompt_variance: Floats, prompt_freedom: int
) -> Floats:
    """Half the width of the interval that misses with probability `level`."""
    seed_quantile, prompt_quantile = (
        stdtrit(max(freedom, 1), np.divide(level, 2)) for freedom in (seed_freedom, prompt_freedom)
    )
    found: Floats = np.sqrt(seed_quantile**2 * seed_variance + prompt_quantile**2 * prompt_variance)
    return found


def differences(values: Floats, pairs: Sequence[tuple[int, int]] | None = None) -> Interval:
    """The interval of method i − method j for pairs of M methods.

    Three seeds say little about how much one difference varies between seeds. So that variance is pooled over all
    methods, with (M − 1)(S − 1) degrees of freedom; a pair that varies more than the pool keeps its own variance.

        pooled = 2 · MS(method × seed),   two-way table of the means over prompts

    Source: randomised block design: Montgomery, Design and Analysis of Experiments, chapter 4.

    Args:
        values: (M, S, G).
        pairs: K pairs (i, j); None: `all_pairs(M)`.
    """
    methods, seeds, _ = values.shape
    first, second = (np.array(side) for side in zip(*(pairs or all_pairs(methods)), strict=True))
    apart = values[first] - values[second]
    if seeds == 1:
        return interval(apart)
    table = values.mean(-1)
    rest = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    freedom = (methods - 1) * (seeds - 1)
    pooled, own = 2 * (rest**2).sum() / freedom, apart.mean(-1).var(-1, ddof=1)
    return _over_seeds(apart, np.maximum(own, pooled) / seeds, freedom)


def all_pairs(number: int) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, those of method 0 first."""
    return list(itertools.combinations(range(number), 2))


def holm(p: Floats) -> Floats:
    """(…, N) p-values adjusted for N tests, so that the chance of any false difference stays at the level.

        sorted p_(1) ≤ … ≤ p_(N):  adjusted p_(k) = max_{j ≤ k} min(1, (N − j + 1) p_(j))

    Source: Holm 1979, Scandinavian Journal of Statistics 6(2).
    """
    number = p.shape[-1]
    order = np.argsort(p, axis=-1)
    scaled = np.take_along_axis(p, order, -1) * np.arange(number, 0, -1)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.maximum.accumulate(np.minimum(scaled, 1.0), axis=-1), -1)
    return adjusted


def first_shares(values: Floats, *, seed: int, resamples: int = 1000) -> Floats:
    """(M,) share of resamples, of seeds and of prompts, in which each method has the highest mean.

    With few seeds the resamples vary less than new seeds would, so the shares are somewhat too certain.

    Args:
        values: (M, S, G).
        seed: of the draws.
        resamples: number of draws.
    """
    methods, seeds, prompts = values.shape
    rng = np.random.default_rng(seed)
    wins = np.zeros(methods)
    for _ in range(resamples):
        drawn = values[:, rng.integers(seeds, size=seeds)].mean(1)
        wins[drawn[:, rng.integers(prompts, size=prompts)].mean(1).argmax()] += 1
    return wins / resamples


@dataclass(frozen=True)
class SelfTest:
    """Shares of resampled repeats in which the comparison itself reports a difference."""

    aa_false_share: float
    """One method under two names: its answers split at random between them."""
    shuffled_false_share: float
    """Any difference, after Holm's correction, when the answers to each prompt are dealt to the methods at random."""
    planted_share: float
    """One method under two names, one of which is better by the planted gain."""
    repeats: int


def self_test(answers: Floats, *, gain: float, seed: int, repeats: int = 200) -> SelfTest:
    """Test the comparison on the measured answers, where the truth is known.

    Args:
        answers: (M, S, G, A ≥ 2), gold or score of each answer.
        gain: the planted difference.
        seed: of the draws.
        repeats: of each of the three tests.
    """
    methods, number = len(answers), answers.shape[-1]
    assert number >= 2
    rng = np.random.default_rng(seed)
    values, half, pair = answers.mean(-1), number // 2, [(0, 1)]
    false = shuffled = planted = 0
    for repeat in range(repeats):
        own = rng.permuted(answers[repeat % methods], axis=-1)
        split = np.stack([own[..., :half].mean(-1), own[..., half : 2 * half].mean(-1)])
        others = np.delete(values, repeat % methods, axis=0)
        false += bool(differences(np.concatenate([split, others]), pair).p < LEVEL)
        split[0] += gain
        found = differences(np.concatenate([split, others]), pair)
        planted += bool((found.p < LEVEL) & (found.mean > 0))
        dealt = rng.permuted(values, axis=0)
        shuffled += bool((holm(differences(dealt).p) < LEVEL).any())
    return SelfTest(false / repeats, shuffled / repeats, planted / repeats, repeats)


@dataclass(frozen=True)
class Variances:
    """Components of the variance of a paired difference at one seed and one prompt."""

    seed: float
    """Between seeds, at infinitely many prompts."""
    prompt: float
    """Between prompts, at infinitely many seeds."""
    noise: float
    """The rest: single answers, and prompts that differ by seed."""


def variances(values: Floats) -> Variances:
    r"""Median over all pairs of M methods of the variance components of their difference.

        two-way table without repeats:  noise = MS_E,  seed = (MS_S − MS_E)/G,  prompt = (MS_P − MS_E)/S,  each ≥ 0

    Source: Searle, Casella and McCulloch 1992, Variance Components, chapter 4.

    Args:
        values: (M, S ≥ 2, G).
    """
    pairs, seeds, prompts = list(itertools.combinations(values, 2)), *values.shape[1:]
    apart = np.stack([first - second for first, second in pairs])
    by_seed, by_prompt = apart.mean(-1, keepdims=True), apart.mean(-2, keepdims=True)
    rest = apart - by_seed - by_prompt + apart.mean((-2, -1), keepdims=True)
    noise = (rest**2).sum((-2, -1)) / ((seeds - 1) * (prompts - 1))
    seed = (prompts * by_seed[..., 0].var(-1, ddof=1) - noise) / prompts
    prompt = (seeds * by_prompt[..., 0, :].var(-1, ddof=1) - noise) / seeds
    return Variances(*(max(0.0, float(np.median(part))) for part in (seed, prompt, noise)))


def power(gain: float, parts: Variances, *, methods: int, seeds: int, prompts: int, draws: int = 20_000) -> float:
    """Chance that `differences` reports a true difference of `gain` between two of M methods, by simulation.

    Args:
        gain: the true difference.
        parts: variance components of the difference.
        methods, seeds, prompts: the size of the comparison.
        draws: simulated comparisons; the generator's seed is fixed.
    """
    rng = np.random.default_rng(0)
    noise = parts.noise / (seeds * prompts)
    mean = rng.normal(gain, np.sqrt(parts.seed / seeds + parts.prompt / prompts + noise), draws)
    measured, freedom = np.zeros(draws), (methods - 1) * (seeds - 1)
    if seeds > 1:
        own = rng.chisquare(seeds - 1, draws)
        others = rng.chisquare(freedom - (seeds - 1), draws) if methods > 2 else 0.0
        measured = (parts.seed / seeds + noise) * np.maximum(own / (seeds - 1), (own + others) / freedom)
    half = _half_width(LEVEL, measured, freedom, np.array(parts.prompt / prompts + noise), prompts - 1)
    return float((mean > half).mean())


def size_for(
    gain: float, parts: Variances, *, methods: int, prompts: int, least: float = 0.8, most_seeds: int = 64
) -> tuple[int, int] | None:
    """The fewest seeds, then the fewest prompts (doubled up to eightfold), that find `gain` with power `least`.

    Returns:
        seeds and prompts; None if no such size is enough.
    """
    for factor in (1, 2, 4, 8):
        low, high = 2, most_seeds
        if power(gain, parts, methods=methods, seeds=high, prompts=factor * prompts) < least:
            continue
        while low < high:
            middle = (low + high) // 2
            enough = power(gain, parts, methods=methods, seeds=middle, prompts=factor * prompts) >= least
            low, high = (low, middle) if enough else (middle + 1, high)
        return low, factor * prompts
    return None
