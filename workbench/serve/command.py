"""`python -m workbench serve`: its options."""

import argparse
from pathlib import Path


def add_serve(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb and its options."""
    parser = verbs.add_parser("serve", help="serve finished runs over HTTP, in the form of OpenAI's API")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders on one base; sft, ppo and reward runs")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
    parser.add_argument("--keys", type=Path, metavar="FILE", help="API keys, a line NAME KEY each; mode 600")
    parser.add_argument("--feedback", type=Path, metavar="DIR", help="for feedback (default: next to the first run)")
    parser.add_argument(
        "--log", type=Path, metavar="FILE", help="log of requests, personal data masked (default: none)"
    )
    parser.add_argument("--max-new-tokens", type=int, help="if a request does not say (default: as in training)")
    parser.add_argument("--at-once", type=int, default=16, help="answers written at one time (default: %(default)s)")
    parser.add_argument("--waiting", type=int, default=64, help="requests that wait at most (default: %(default)s)")
    parser.add_argument("--per-key", type=int, default=32, help="requests of a key at one time (default: %(default)s)")
    parser.add_argument("--engine", choices=("auto", "own", "vllm"), default="auto", help="default: %(default)s")
    parser.set_defaults(run=serve)


def serve(arguments: argparse.Namespace) -> None:
    """Serve until interrupted."""
    from workbench.serve import start

    given = vars(arguments)
    options = {name: given[name] for name in start.ServeOptions.__dataclass_fields__}
    start.serve(arguments.runs, start.ServeOptions(**options))
