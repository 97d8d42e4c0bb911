"""The atlas of over-optimisation: laws and gains of runs whose course is known."""

import json

import numpy as np
import pytest

from benchmarks.atlas import ARMS, CONTROL, Arm, best_of_law, draw, figures, summary
from benchmarks.guard_runs import World


def run_of(gold, kl, seed=0, best_of=()):
    """A run with these gold rewards at these KLs."""
    rows = [{"kl": float(k), "gold": float(g), "score": 2 * float(g)} for k, g in zip(kl, gold, strict=True)]
    return {"seed": seed, "rows": rows, "best_of": list(best_of)}


def test_arms_have_names_of_their_own_and_a_control():
    assert len({arm.name for arm in ARMS}) == len(ARMS)
    assert ARMS[0] == Arm(CONTROL)


def test_both_laws_are_found_again():
    d = np.linspace(0.2, 4, 20)
    found = figures(run_of(0.2 + d * (0.5 - 0.3 * np.log(d)), d**2))
    assert found["end_gain"] < found["peak_gain"]
    assert best_of_law(d, d * (0.5 - 0.1 * d)) == pytest.approx((0.5, 0.1))
    curve = ((1, 0.0), (2, 0.2), (4, 0.6), (8, 1.2))
    start = [{"n": n, "kl": k, "gold": 0.2 + 0.3 * k**0.5 - 0.05 * k, "score": 0.0} for n, k in curve]
    gained = figures(run_of(0.2 + d * (0.5 - 0.3 * np.log(d)), d**2, best_of=start))
    assert (gained["alpha"], gained["beta"]) == (pytest.approx(0.5), pytest.approx(0.3)), "gains over the start's gold"
    assert (gained["best_of"]["alpha"], gained["best_of"]["beta"]) == (pytest.approx(0.3), pytest.approx(0.05))


def test_arms_are_compared_with_the_control_of_the_same_seed(tmp_path):
    world, kl = World(tmp_path, {}), np.arange(12.0)
    (tmp_path / "observed").mkdir()
    for arm, slope, seeds in ((CONTROL, 0.01, (0, 1)), ("dpo", 0.03, (1, 2))):
        for seed in seeds:
            run = run_of(0.2 + slope * (1 + seed) * kl, kl, seed)
            (tmp_path / "observed" / f"{arm}, seed {seed}.json").write_text(json.dumps(run))
    found = summary(world, ARMS, (0, 1, 2))["arms"]
    assert set(found) == {CONTROL, "dpo"}
    assert found["dpo"]["seeds"] == [1, 2]
    assert found["dpo"]["end_gain_over_control"] == pytest.approx([0.04 * (9 + 10 + 10.5) / 3])  # smoothed ends, seed 1
    assert found[CONTROL]["end_gain_over_control"] == [0.0, 0.0]
    draw(found, tmp_path / "atlas.png")
    assert (tmp_path / "atlas.png").stat().st_size > 10_000
