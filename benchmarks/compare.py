"""Claim: `python -m workbench compare` at its default compares at least ten methods on three seeds within an hour on
two cores, reports no difference where there is none, and says how small a difference it can find.

    python -m benchmarks.compare [--config configs/tiny/compare.yaml]

Start it again and it goes on. The seconds are the sum over the commands; other programs on the machine lengthen them,
but change no number of quality.
"""

import argparse
import json
from pathlib import Path

from benchmarks.record import RESULTS, write_result
from workbench.__main__ import main as workbench
from workbench.compare.config import CompareConfig
from workbench.run.config import load_config

CLAIM = (
    "at least ten methods and three seeds in at most 3 600 s on two cores; one method under two names differs in at "
    "most 5 % of 200 repeats; a gain of .03 is found with power .8, or the size that would find it is given"
)


def main(argv: list[str] | None = None) -> int:
    """Run the comparison and keep its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/tiny/compare.yaml"))
    parser.add_argument("--out", type=Path, default=RESULTS / "compare.json")
    parser.add_argument("--shared", action="store_true", help="note that other programs used the machine meanwhile")
    arguments = parser.parse_args(argv)
    workbench(["compare", str(arguments.config)])
    config, _ = load_config(CompareConfig, arguments.config)
    found = json.loads((Path(config.compare.out) / "compare.json").read_text(encoding="utf-8"))
    write_result(arguments.out, {"claim": CLAIM, "machine_was_shared": arguments.shared, **found})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
