"""How many labels: `python -m reward curve CONFIG.yaml --out FOLDER` fits on nested subsets and forecasts.

Every seed draws its own order of the prompt groups, and its subsets are prefixes of that order, so a larger subset
contains the smaller ones. All fits are measured on the same held-out pairs. A fit is an ordinary reward run in the
folder: the same command skips finished fits and resumes unfinished ones.
"""

import gc
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from reward.config import RewardConfig
from reward.verbs.curve_fit import Floats, Forecast, PowerLaw, band, fit_power_law, forecast, resampled_laws
from workbench.data.embedded import resolve_data
from workbench.data.readers import record_lines
from workbench.data.records import Preference
from workbench.data.rules import RowRules
from workbench.data.splits import load_pairs
from workbench.evaluate.charts import Series, fit_chart
from workbench.evaluate.pages import render_page
from workbench.run.checkpoints import make_folder, write_text_atomically
from workbench.run.config import load_config
from workbench.run.errors import WorkbenchError, terminate
from workbench.run.options import MOST_SEED

LEAST_SEEDS, LEAST_SIZES = 3, 3
"""For a power law with three parameters, and an estimate of the noise between seeds."""
TEMPLATE = Path(__file__).parent / "templates/curve.html.jinja"


def learning_curve(
    config_path: Path, overrides: Sequence[str], out: Path, *, sizes: str | None, seeds: str, more: int = 0
) -> str:
    """Fit on every subset, write curve.json and curve.html, and return the forecast as a sentence.

    Args:
        config_path: configuration of the fit; its `run.dir`, `run.seed` and `data` files are replaced.
        overrides: values that replace the file's, `a.b=value`.
        out: folder for the subsets, the fits and the results.
        sizes: numbers of pairs, separated by commas; None: all pairs and four halvings.
        seeds: at least three, separated by commas.
        more: pairs to forecast beyond the largest size; 0: as many again.

    Raises:
        WorkbenchError: a size or seed is bad, or the folder holds fits of other labels or of another configuration.
        KeyboardInterrupt: Ctrl-C or SIGTERM, with what to do.
    """
    config, _ = load_config(RewardConfig, config_path, overrides)
    split = load_pairs(
        resolve_data(config.data.train),
        resolve_data(config.data.heldout) if config.data.heldout else None,
        heldout_share=config.data.heldout_share,
        seed=config.run.seed,
        keep_ties=True,
        rules=RowRules(config.data.ignore, config.data.bad_rows),
    )
    wanted = _sizes(sizes, len(split.train))
    numbers = _numbers("--seeds", seeds)
    if len(numbers) < LEAST_SEEDS:
        raise WorkbenchError("--seeds", f"{seeds!r} names {len(numbers)}", expected=f"at least {LEAST_SEEDS}")
    if max(numbers) > MOST_SEED:
        raise WorkbenchError("--seeds", f"{max(numbers)} is too large", expected=f"at most {MOST_SEED}")
    heldout = out / "heldout.jsonl"
    files = {heldout: record_lines(_unmarked(split.heldout))}
    fits = {}
    for seed in numbers:
        ordered = _unmarked(in_random_order(split.train, seed))
        for size in wanted:
            subset = out / f"seed-{seed}" / f"pairs-{size}.jsonl"
            fits[subset], files[subset] = (seed, size), record_lines(ordered[:size])
    _write_once(files)
    points = _fit_all(config_path, overrides, fits, heldout)
    largest = wanted[-1]
    return _report(out, points, largest=largest, more=more or largest, heldout=len(split.heldout))


def in_random_order(records: Sequence[Preference], seed: int) -> list[Preference]:
    """The records grouped by prompt, with the groups in a random order."""
    groups: dict[str, list[Preference]] = {}
    for record in records:
        groups.setdefault(record.group, []).append(record)
    names = list(groups)
    order = np.random.default_rng(seed).permutation(len(names))
    return [record for index in order for record in groups[names[index]]]


def _sizes(text: str | None, available: int) -> list[int]:
    """Numbers of pairs, ascending."""
    if text is None:
        sizes = sorted({available >> halving for halving in range(5)} - {0})
    else:
        sizes = sorted(set(_numbers("--sizes", text)))
    if len(sizes) < LEAST_SIZES or sizes[0] < 1:
        raise WorkbenchError("--sizes", f"{sizes}", expected=f"at least {LEAST_SIZES} numbers of pairs above 0")
    if sizes[-1] > available:
        raise WorkbenchError("--sizes", f"{sizes[-1]} pairs", expected=f"at most the {available} there are to train on")
    return sizes


def _numbers(name: str, text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise WorkbenchError(name, f"{text!r} is not a list of integers", expected="such as 250,500,1000")
    return [int(part) for part in parts]


def _unmarked(records: Sequence[Preference]) -> list[Preference]:
    """The records without the part of the file they are in: each file of the curve is one part."""
    return [record.model_copy(update={"split": None}) for record in records]


def _write_once(files: Mapping[Path, str]) -> None:
    """Write the data files of the curve that are not there yet.

    Raises:
        WorkbenchError: one is there and holds other text; then none is written.
    """
    other = [path for path, text in files.items() if path.is_file() and path.read_bytes() != text.encode()]
    if other:
        raise WorkbenchError(
            other[0],
            f"holds other pairs than this curve needs{f', and so do {len(other) - 1} more' if other[1:] else ''}",
            expected="the files that the same labels, data.heldout_share and run.seed give",
            remedy="--out another folder: fits on different labels are not one curve",
        )
    for path, text in files.items():
        if not path.is_file():
            make_folder(path.parent)
            write_text_atomically(path, text)


def _fit_all(
    config_path: Path, overrides: Sequence[str], fits: Mapping[Path, tuple[int, int]], heldout: Path
) -> list[dict[str, float]]:
    """One point per subset, from subset → (seed, pairs)."""
    from workbench.model.session import on_sigterm

    points: list[dict[str, float]] = []
    try:
        with on_sigterm(terminate):
            for subset, (seed, size) in fits.items():
                points.append({"seed": seed, "pairs": size, **_fit(config_path, overrides, subset, heldout, seed)})
                print(f"{size:,} pairs, seed {seed}: accuracy {points[-1]['accuracy']:.3f}", flush=True)
    except KeyboardInterrupt as error:
        raise type(error)(f"start the same command again: {len(points)} of {len(fits)} fits are finished") from None
    return points


def _fit(config_path: Path, overrides: Sequence[str], subset: Path, heldout: Path, seed: int) -> dict[str, float]:
    """Accuracy and calibration error of one fit; starts or resumes it unless it is finished."""
    from reward.train import train

    run = subset.with_suffix("")
    config, _ = load_config(
        RewardConfig,
        config_path,
        [
            *overrides,
            *(f"run.dir={run}", f"run.seed={seed}"),
            *(f"data.train={subset}", f"data.heldout={heldout}", "data.limit=0", "passport.at_end=false"),
        ],
    )
    folder = train(config, resume=(run / "run.json").is_file())
    gc.collect()
    last = next(row for row in reversed(folder.read_metrics()) if "heldout/accuracy" in row)
    return {"accuracy": last["heldout/accuracy"], "ece": last["heldout/ece"], "loss": last["heldout/loss"]}


def _report(out: Path, points: list[dict[str, float]], *, largest: int, more: int, heldout: int) -> str:
    """Write curve.json and curve.html; returns the sentence."""
    pairs, accuracies = [p["pairs"] for p in points], [p["accuracy"] for p in points]
    law = fit_power_law(pairs, accuracies)
    laws = resampled_laws(pairs, accuracies, seed=0)
    future = forecast(law, laws, pairs=largest, more=more)
    x = np.geomspace(min(pairs), largest + more, 40)
    line = np.stack((x, law(x), *band(laws, x)), axis=1)
    content = {
        "points": points,
        "law": asdict(law),
        "forecast": asdict(future),
        "line": line.tolist(),
        "sentence": future.sentence,
        "heldout_pairs": heldout,
    }
    write_text_atomically(out / "curve.json", json.dumps(content, indent=1) + "\n")
    write_text_atomically(out / "curve.html", _page(points, law, line, future, heldout))
    return f"{out / 'curve.html'}: {future.sentence}"


def _page(points: list[dict[str, float]], law: PowerLaw, line: Floats, future: Forecast, heldout: int) -> str:
    sizes = sorted({p["pairs"] for p in points})
    seeds = sorted({p["seed"] for p in points})
    x, y, low, high = (column.tolist() for column in line.T)
    chart = fit_chart(
        "curve",
        Series("fits", [p["pairs"] for p in points], [p["accuracy"] for p in points], 1),
        Series("power law, 95 %", x, y, 3),
        (low, high),
        x_label="pairs",
        y_label="held-out accuracy",
    )
    return render_page(TEMPLATE, chart=chart, future=future, law=law, sizes=sizes, seeds=seeds, heldout=heldout)
