"""Question: does the verification of an export refuse every wrong one and pass every sound one, and what is lost?

Forty sabotages (`export_sabotages`) are written and verified; then each run is exported in every form, which must pass.
KL and top-1 are those of the first policy on each base. The bfloat16 merges, and merges into the original weights of
the base instead of the NF4 ones, are measured as well.

    python -m benchmarks.export --policies PPO_RUN RUN … --heads REWARD_RUN RUN … [--heldout FILE]
"""

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.export_sabotages import SABOTAGES, Sabotage
from benchmarks.record import RESULTS, write_result
from workbench.data.embedded import TINY_BASE
from workbench.export.run_export import Request, Trained, export, open_request, verify
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder

OUT = RESULTS / "export.json"
FORMS: list[dict[str, Any]] = [
    {"to": "adapter"},
    {"to": "merged"},
    {"to": "merged", "dtype": "bfloat16"},
    {"to": "gguf"},
    {"to": "gguf", "storage": "q8_0"},
    {"to": "merged", "weights": "original"},
]
KEPT = (
    *("phase", "to", "stored", "base_weights", "tokens", "kl", "top1", "effect", "survival", "refused"),
    *("against_the_base_of_training", "rows", "largest_difference", "limit"),
)
"""Keys of a report that the result holds."""
HEAD_FORMS: list[dict[str, Any]] = [{"to": "classifier"}, {"to": "classifier", "dtype": "bfloat16"}]


def main(argv: list[str] | None = None) -> None:
    """Run all and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", nargs="+", required=True, help="the first one is sabotaged")
    parser.add_argument("--heads", nargs="+", required=True, help="reward and classification runs; likewise")
    parser.add_argument("--heldout", help="prompts for policies that are not on the embedded base")
    parser.add_argument("--processes", type=int, default=1, help="that work at one time (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    policies, heads = ([RunFolder.open(run) for run in runs] for runs in (arguments.policies, arguments.heads))
    with ProcessPoolExecutor(arguments.processes) as pool:
        wrong = pool.submit(sabotage_all, policies[0], heads[0], arguments.heldout)
        sound = [pool.submit(exports, folder, FORMS, arguments.heldout) for folder in policies]
        sound += [pool.submit(exports, folder, HEAD_FORMS, None) for folder in heads]
        refused, exported = wrong.result(), [report for one in sound for report in one.result()]
    reports = [one for one in exported if "refused" not in one]
    write_result(
        arguments.out,
        {
            "sabotages": {"refused": len([one for one in refused if one["refused"]]), "of": len(refused)},
            "sound": {"passed": len(reports), "of": len(exported)},
            "kl": worst(reports, "kl", max),
            "top1": worst(reports, "top1", min),
            "survival_of_the_effect": worst(reports, "survival", min),
            "reasons": refused,
            "exports": [short(report) for report in exported],
        },
    )


def sabotage_all(policy: RunFolder, head: RunFolder, heldout: str | None) -> list[dict[str, Any]]:
    """Write and verify every sabotage."""
    opened: dict[RunFolder, Trained] = {}
    found = []
    for one in SABOTAGES:
        folder = head if one.to == "classifier" else policy
        request = Request(folder, one.to, heldout=None if on_embedded_base(folder) else heldout)
        if folder not in opened:
            opened[folder] = open_request(request)
        with tempfile.TemporaryDirectory() as scratch:
            reason = sabotaged(one, request, opened[folder], Path(scratch) / "export")
        print(f"{one.to}, {one.name}: {reason or 'NOT REFUSED'}", flush=True)
        found.append({"to": one.to, "sabotage": one.name, "refused": reason is not None, "reason": reason})
    return found


def on_embedded_base(folder: RunFolder) -> bool:
    """Whether held-out prompts of a run are known."""
    return bool(folder.record()["base"]["name"] == TINY_BASE)


def sabotaged(one: Sabotage, request: Request, trained: Trained, folder: Path) -> str | None:
    """Why a sabotage is refused; None if it is not."""
    folder.mkdir()
    one.write(request, trained, folder)
    try:
        verify(request, trained, folder)
    except WorkbenchError as error:
        return error.problem.removeprefix("the export is not the trained model: ")
    return None


def exports(folder: RunFolder, forms: list[dict[str, Any]], heldout: str | None) -> list[dict[str, Any]]:
    """The report of each form, or why it was refused."""
    found, opened = [], {}
    for form in forms:
        request = Request(folder, heldout=None if on_embedded_base(folder) else heldout, **form)
        if request.weights not in opened:
            opened[request.weights] = open_request(request)
        try:
            with tempfile.TemporaryDirectory() as scratch:
                out = Path(scratch) / request.out.name
                report = export(request, out, opened=opened[request.weights], quiet=True)
        except WorkbenchError as error:
            report = {"run": str(folder.path), **form, "refused": str(error)}
        print(report, flush=True)
        found.append(report)
    return found


def short(report: dict[str, Any]) -> dict[str, Any]:
    """The measured values of a report, with the names of run and base instead of their places."""
    names = {
        "run": Path(report["run"]).name,
        **({"base": Path(report["base"]["name"]).name} if "base" in report else {}),
    }
    return names | {key: value for key, value in report.items() if key in KEPT and value is not None}


def worst(reports: list[dict[str, Any]], key: str, pick: Any) -> dict[str, float]:
    """The worst value over the policies, by what is written; merges into the original weights have their own entry."""
    names = {"adapter": "adapter", "f16": "f16", "q8_0": "q8_0", "bfloat16": "merged_bfloat16", "float32": "merged"}
    found: dict[str, list[float]] = {}
    for report in reports:
        if report.get(key) is None:
            continue
        name = "adapter" if report["to"] == "adapter" else names[report["stored"]]
        if gap := report.get("against_the_base_of_training"):
            name, value = "merged_into_original_weights", gap.get(key)
        else:
            value = report[key]
        if value is not None:
            found.setdefault(name, []).append(value)
    return {name: float(pick(values)) for name, values in found.items()}


if __name__ == "__main__":
    main()
