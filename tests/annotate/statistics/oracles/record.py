"""Records what other people's programs say of small sets of judgements.

    python tests/annotate/statistics/oracles/record.py

Needs krippendorff (GPL), crowd-kit, statsmodels and choix. The tests read the numbers that were recorded, with the
versions that gave them; nothing of these programs is part of the project. `test_live_oracles` asks the first two anew.
"""

import json
import math
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

OUT = Path(__file__).with_name("recorded.json")
PROGRAMS = ("krippendorff", "crowd-kit", "statsmodels", "choix", "numpy")
SCALE = list(range(-3, 4))


def cases() -> dict[str, list[list[int | None]]]:
    """Judgements by name: a row an item, a column an annotator; None where somebody did not judge."""
    made: dict[str, list[list[int | None]]] = {
        "all agree on one value": [[1, 1, 1]] * 5,
        "perfect on two values": [[-2, -2], [3, 3], [-2, -2], [3, 3]],
        "opposite": [[-1, 1], [1, -1], [-1, 1], [1, -1]],
        "ties only, once broken": [[0, 0, 0], [0, 0, 0], [0, 0, 1]],
        "one pair": [[-3, 2]],
        "one judgement each": [[1, None], [None, 2], [-3, None]],
        "a single compared item": [[2, 2, None], [None, 1, None], [None, None, -1]],
    }
    for seed, (items, people, missing) in enumerate(
        [(30, 2, 0.0), (25, 3, 0.0), (40, 4, 0.0), (40, 4, 0.4), (60, 6, 0.6), (20, 5, 0.2)]
    ):
        rng = np.random.default_rng(seed)
        truth = rng.integers(-3, 4, items)
        judged = np.clip(truth[:, None] + rng.integers(-2, 3, (items, people)), -3, 3)
        absent = rng.random((items, people)) < missing
        made[f"random {seed}: {items} items, {people} people, {missing:.0%} missing"] = [
            [None if gone else int(value) for value, gone in zip(row, gap, strict=True)]
            for row, gap in zip(judged, absent, strict=True)
        ]
    return made


def number(value: float) -> float | None:
    """JSON knows no NaN."""
    return None if not math.isfinite(value) else float(value)


def alphas(table: list[list[int | None]]) -> dict[str, float | str | None]:
    """krippendorff.alpha on every level; its error where it refuses."""
    import krippendorff

    data = np.array([[np.nan if value is None else value for value in row] for row in table]).T
    found: dict[str, float | str | None] = {}
    for level in ("nominal", "ordinal", "interval"):
        try:
            found[level] = number(krippendorff.alpha(reliability_data=data, level_of_measurement=level))
        except ValueError as error:
            found[level] = f"refused: {error}"
    return found


def kappas(table: list[list[int | None]]) -> dict[str, float | None]:
    """statsmodels: Fleiss' kappa of sides for complete tables, Cohen's for two people."""
    from statsmodels.stats.inter_rater import cohens_kappa, fleiss_kappa, to_table

    if any(value is None for row in table for value in row):
        return {}
    data = np.array(table)
    sides = np.sign(data)
    with np.errstate(invalid="ignore"):
        counts = np.stack([(sides == side).sum(1) for side in (-1, 0, 1)], axis=1)
        found = {"fleiss": number(fleiss_kappa(counts))}
        if data.shape[1] == 2:
            square = to_table(data + 3, bins=np.arange(8) - 0.5)[0]
            for name, weights in (("cohen", None), ("cohen_linear", "linear"), ("cohen_quadratic", "quadratic")):
                found[name] = number(cohens_kappa(square, wt=weights, return_results=False))
    return found


def posteriors(table: list[list[int | None]], iterations: int) -> dict[str, Any]:
    """crowd-kit's Dawid-Skene on sides after so many steps (its own rule stops it after a few)."""
    import pandas as pd
    from crowdkit.aggregation import DawidSkene

    rows = [(i, a, int(np.sign(v)) + 1) for i, row in enumerate(table) for a, v in enumerate(row) if v is not None]
    data = pd.DataFrame(rows, columns=["task", "worker", "label"])
    model = DawidSkene(n_iter=iterations, tol=-1e9)
    found = model.fit_predict_proba(data).reindex(columns=range(3), fill_value=0.0).sort_index()
    priors = model.priors_.reindex(range(3), fill_value=0.0)
    return {"iterations": iterations, "posteriors": found.to_numpy().tolist(), "prior": priors.to_list()}


def ratings() -> list[dict[str, Any]]:
    """choix: Bradley-Terry by maximum likelihood."""
    import choix

    found = []
    for seed, runs in ((0, 2), (1, 3), (2, 5)):
        rng = np.random.default_rng(seed)
        strengths = rng.normal(size=runs)
        wins = np.zeros((runs, runs), dtype=int)
        for _ in range(60 * runs):
            i, j = rng.choice(runs, 2, replace=False)
            first = rng.random() < 1 / (1 + np.exp(strengths[j] - strengths[i]))
            wins[(i, j) if first else (j, i)] += 1
        pairs = [(i, j) for i in range(runs) for j in range(runs) for _ in range(wins[i, j])]
        fitted = choix.opt_pairwise(runs, pairs, alpha=0.0, method="Newton-CG", tol=1e-12)
        found.append({"wins": wins.tolist(), "ratings": (fitted - fitted.mean()).tolist()})
    return found


def main() -> None:
    """Write every number."""
    recorded: dict[str, Any] = {"made by": {name: version(name) for name in PROGRAMS}, "cases": {}}
    for name, table in cases().items():
        entry: dict[str, Any] = {"judgements": table, "alpha": alphas(table), "kappa": kappas(table)}
        if name.startswith("random"):
            kept = [row for row in table if sum(value is not None for value in row) >= 2]
            entry["dawid_skene"] = {"judgements": kept, "steps": [posteriors(kept, number) for number in (1, 40)]}
        recorded["cases"][name] = entry
    recorded["bradley_terry"] = ratings()
    OUT.write_text(json.dumps(recorded, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
