"""`python -m workbench serve`: its options."""

import argparse
from pathlib import Path

from workbench.run.options import port, positive_int


def add_serve(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb and its options."""
    parser = verbs.add_parser("serve", help="serve finished runs over HTTP, in the form of OpenAI's API")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders on one base; sft, ppo and reward runs")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=port, default=8000, help="port to listen on (default: %(default)s)")
    parser.add_argument("--keys", type=Path, metavar="FILE", help="API keys, one line NAME KEY each; mode 600")
    parser.add_argument(
        "--feedback", type=Path, metavar="DIR", help="folder for feedback (default: `feedback` next to the first run)"
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="request log, personal data masked (default: none)")
    parser.add_argument(
        "--max-new-tokens",
        type=positive_int,
        help="tokens of an answer unless the request sets them (default: as in training)",
    )
    parser.add_argument(
        "--at-once", type=positive_int, default=16, help="answers that are generated at a time (default: %(default)s)"
    )
    parser.add_argument(
        "--waiting", type=positive_int, default=64, help="most requests that may wait (default: %(default)s)"
    )
    parser.add_argument(
        "--per-key", type=positive_int, default=32, help="most requests of one key at a time (default: %(default)s)"
    )
    parser.add_argument(
        "--engine",
        choices=("auto", "own", "vllm"),
        default="auto",
        help="auto: vllm if it is installed, there is a GPU, and nothing needs our own (default: %(default)s)",
    )
    parser.set_defaults(run=serve)


def serve(arguments: argparse.Namespace) -> None:
    """Serve until interrupted."""
    from workbench.serve import start

    given = vars(arguments)
    options = {name: given[name] for name in start.ServeOptions.__dataclass_fields__}
    start.serve(arguments.runs, start.ServeOptions(**options))
