"""Question: which planted defects does `python -m workbench validate` find, and what does it find where there are none?

Each kind of defect is planted into `--files` generated files. Precision and recall count rows for kinds that name rows
and files for the others, over all files: a finding in a file of another kind, or in a file without a defect, counts
against its kind. A row counts as found only if the report names its line.

    python -m benchmarks.doctor_defects [--files 40] [--rows 60] [--kinds KIND …]
"""

import argparse
import json
import multiprocessing
import shutil
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from benchmarks.defects import DEFECTS, make
from benchmarks.made_data import Made
from benchmarks.record import RESULTS, write_result
from workbench.data.embedded import resolve_base
from workbench.run.progress import progress
from workbench.validate.examine import Question, examine

OUT = RESULTS / "doctor_defects.json"


def main(argv: list[str] | None = None) -> None:
    """Generate, examine and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=40, help="per kind")
    parser.add_argument("--rows", type=int, default=60, help="of a file")
    parser.add_argument("--kinds", nargs="+", choices=sorted(DEFECTS), default=sorted(DEFECTS))
    parser.add_argument("--processes", type=int, default=2, help="that examine data sets at one time")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    kinds = [kind for kind in (*arguments.kinds, "clean") for _ in range(arguments.files)]
    hits: Counter[str] = Counter()
    planted: Counter[str] = Counter()
    reported: Counter[str] = Counter()
    missed: list[str] = []
    sets = [(kind, number, arguments.rows) for number, kind in enumerate(kinds)]
    with multiprocessing.Pool(arguments.processes) as pool:
        for kind, number, there_by_kind, said_by_kind in progress(
            pool.imap_unordered(examined, sets), total=len(sets), description="data sets", unit=" sets"
        ):
            for name in there_by_kind.keys() | said_by_kind.keys():
                there, said = there_by_kind.get(name, set()), said_by_kind.get(name, set())
                hits[name] += len(there & said)
                planted[name] += len(there)
                reported[name] += len(said)
                if there != said:
                    lost, false = sorted(there - said)[:4], sorted(said - there)[:4]
                    missed.append(f"{kind} {number}: {name}: missed {lost}, false {false}")
    result = {
        name: {
            "recall": round(hits[name] / planted[name], 4) if planted[name] else None,
            "precision": round(hits[name] / reported[name], 4) if reported[name] else None,
            "files": arguments.files if name in arguments.kinds else 0,
            "planted": planted[name],
            "reported": reported[name],
        }
        for name in sorted(planted.keys() | reported.keys())
    }
    print("\n".join(missed[:40]))
    write_result(arguments.out, {"kinds": result, "data_sets": len(kinds), "rows": arguments.rows})


Places = dict[str, set[tuple[int, int]]]
"""Kind → (file, line)."""


def examined(data_set: tuple[str, int, int]) -> tuple[str, int, Places, Places]:
    """The kind and number of a data set, what was planted, and what is found in it."""
    kind, number, rows = data_set
    made = make(kind, seed=number, rows=rows)
    with tempfile.TemporaryDirectory() as folder:
        return kind, number, dict(made.planted), dict(reported_in(made, Path(folder) / kind))


def reported_in(made: Made, folder: Path) -> Places:
    """Kind → (file, line) of the findings; notes are left out, and `refused` has no rows of its own."""
    folder.mkdir()
    paths = []
    for number, rows in enumerate(made.files):
        path = folder / f"{number}.jsonl"
        lines = [
            row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass")
            for row in rows
        ]
        path.write_bytes(b"\n".join(lines) + b"\n")
        paths.append(str(path))
    report = examine(
        Question(
            tuple(paths),
            made.purpose,
            base=base_for(made, folder),
            quiet=True,
        )
    )
    found: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for finding in report.findings:
        if finding.level == "note" or finding.kind == "refused":
            continue
        file = paths.index(finding.file)
        lines_of = [int(spot.place.rpartition(", line ")[2]) - 1 for spot in finding.spots] or [-1]
        found[finding.kind] |= {(file, line) for line in lines_of}
    return found


def base_for(made: Made, folder: Path) -> str | None:
    """The base whose tokenizer counts: the embedded default, or a copy of it that knows ASCII only."""
    if "unknown-characters" not in made.planted:
        return "tiny" if "too-long" in made.planted else None
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    letters = ["<unk>", "<s>", "</s>", "\n", *map(chr, range(32, 127))]
    model = models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[], unk_token="<unk>")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(model), unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    base = folder / "base"
    tokenizer.save_pretrained(base)
    shutil.copy(Path(resolve_base("tiny")) / "config.json", base)
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    (base / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 2048}), encoding="utf-8")
    return str(base)


if __name__ == "__main__":
    main()
