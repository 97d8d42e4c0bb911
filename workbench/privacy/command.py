"""`python -m workbench unmask`: its options, and what it prints."""

import argparse
from pathlib import Path


def add_unmask(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb and its options."""
    parser = verbs.add_parser("unmask", help="restore masked personal data in a text file, with the key")
    parser.add_argument("file", metavar="FILE", help="JSONL, CSV or plain text with masks such as [EMAIL_3f9c02a1b7]")
    parser.add_argument("--audit", required=True, metavar="FILE", help="masked.jsonl of the run or the label store")
    parser.add_argument("--out", required=True, metavar="FILE", help="file to write, for its owner only")
    parser.add_argument("--key", metavar="FILE", help="key file (default: $WORKBENCH_MASK_KEY, or the user's)")
    parser.set_defaults(run=unmask)


def unmask(arguments: argparse.Namespace) -> None:
    """Restore the masked values of a file."""
    from workbench.privacy.audit import unmask_file
    from workbench.privacy.keys import key_path

    key = Path(arguments.key) if arguments.key else key_path()
    restored, unknown = unmask_file(Path(arguments.file), Path(arguments.audit), key, Path(arguments.out))
    missing = f"; {unknown:,} masks are not in {arguments.audit}" if unknown else ""
    print(f"{arguments.out}: {restored:,} values restored{missing}")
