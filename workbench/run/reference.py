"""Every key of a configuration class as YAML, with its default and its docstring as a comment.

    python -m workbench.run.reference sft.config:SftConfig > configs/reference/sft.yaml

Knows no phase: the class is a name. `make reference` writes the files under configs/reference/.
"""

import pkgutil
import sys
import textwrap
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from workbench.run.config import yaml_value

WIDTH = 110
MISSING = "???"
"""How OmegaConf writes a value that must be given."""
VERBS = {
    "ppo.ladder.config": "ppo pairs",
    "workbench.compare.config": "workbench compare",
    "workbench.loop.config": "workbench loop",
    "workbench.suite.config": "workbench evaluate --suite",
}
"""Module of a configuration → the command that reads it, if that is not the package alone."""

HEADER = """\
# Every key that `python -m {command}` reads, with its default.
# Generated from `{source}` by `make reference`: copy the keys that you need into a file of your own.
# `???`: the key has no default and must be given.
"""


def reference(config_class: type[BaseModel]) -> str:
    """The text of a reference file."""
    module = config_class.__module__
    header = HEADER.format(command=VERBS.get(module, module.split(".")[0]), source=module.replace(".", "/") + ".py")
    return "\n".join([header, *_section(config_class, None, depth=0), ""])


def _section(section: type[BaseModel], defaults: BaseModel | None, depth: int) -> list[str]:
    """The lines of one section; `defaults` is its default value, if the section as a whole has one."""
    indent, lines = "  " * depth, []
    for name, field in section.model_fields.items():
        value = field.default if defaults is None else getattr(defaults, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            lines += ["", *_comment(field.description or field.annotation.__doc__, indent), f"{indent}{name}:"]
            lines += _section(field.annotation, None if value is PydanticUndefined else value, depth + 1)
        else:
            lines += [*_comment(field.description, indent), f"{indent}{name}: {_shown(value)}{_choices(field)}"]
    return lines


def _comment(text: str | None, indent: str) -> list[str]:
    words = " ".join((text or "").split())
    return [f"{indent}# {line}" for line in textwrap.wrap(words, WIDTH - len(indent), break_on_hyphens=False)]


def _shown(value: Any) -> str:
    return MISSING if value is PydanticUndefined else yaml_value(value)


def _choices(field: FieldInfo) -> str:
    """The values that the key takes, if it takes a few only."""
    if get_origin(field.annotation) is not Literal:
        return ""
    return f"  # {' | '.join(str(choice) for choice in get_args(field.annotation))}"


if __name__ == "__main__":
    print(reference(pkgutil.resolve_name(sys.argv[1])), end="")
