"""Typed configuration: defaults, then a YAML file, then `a.b=value` from the command line.

OmegaConf reads YAML and overrides (so `1e-4` is a number); pydantic checks names and types. Knows no phase.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, ValidationError

from workbench.run.errors import SeveralErrors, WorkbenchError, nearest
from workbench.run.shipped import here_or_shipped


class Section(BaseModel):
    """A part of a configuration: immutable, strictly typed, no unknown key, no infinite number."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


ConfigT = TypeVar("ConfigT", bound=Section)


def load_config(
    config_class: type[ConfigT], path: Path | None, overrides: Sequence[str] = ()
) -> tuple[ConfigT, dict[str, str]]:
    """The validated configuration and each value's origin, by dotted key; without a file, from the defaults.

    Raises:
        WorkbenchError: unreadable file or override, unknown key (with the nearest one), missing or wrong value.
    """
    values = read_values(path, overrides)
    file_keys = set(dotted(OmegaConf.to_container(read_yaml(path)))) if path else set()
    command_line_keys = set(dotted(OmegaConf.to_container(_read_overrides(overrides))))

    def origin(key: str) -> str:
        def within(keys: set[str]) -> bool:
            return any(key == k or key.startswith(k + ".") or k.startswith(key + ".") for k in keys)

        return "command line" if within(command_line_keys) else str(path) if within(file_keys) else "default"

    try:
        config = config_class.model_validate(_tuples(values))
    except ValidationError as error:
        raise _as_workbench_error(error, config_class, origin) from None
    return config, {key: origin(key) for key in dotted(config.model_dump())}


def replace_values(values: Sequence[str], by: Sequence[str]) -> list[str]:
    """Values `a.b=value` with others in place of those with the same key."""
    keys = {value.partition("=")[0] for value in by}
    return [*(value for value in values if value.partition("=")[0] not in keys), *by]


def read_values(path: Path | None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The nested values of a file and the overrides together, interpolations resolved, before any class checks them.

    Raises:
        WorkbenchError: unreadable file or override, or a value left at `???`.
    """
    merged = OmegaConf.merge(read_yaml(path) if path else {}, _read_overrides(overrides))
    try:
        values: Any = OmegaConf.to_container(merged, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise _no_value(f"{path}: {error.full_key}", str(error.full_key)) from None
    except OmegaConfBaseException as error:
        raise WorkbenchError(path or "command line", f"cannot resolve an interpolation: {error}") from None
    return dict(values)


def _no_value(place: str, key: str) -> WorkbenchError:
    return WorkbenchError(place, "has no value", remedy=f"give {key}=… on the command line or in the file")


LONG = 60
"""Characters up to which the origins of values stand below each other."""


def describe(config: Section, origins: Mapping[str, str]) -> str:
    """The configuration as YAML that the same phase reads, one line per value, each with `# origin`."""
    lines: list[tuple[str, str]] = []
    open_sections: list[str] = []
    for key, value in dotted(config.model_dump(mode="json")).items():
        *sections, name = key.split(".")
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(sections, open_sections, strict=False)))
        lines += [(f"{'  ' * depth}{sections[depth]}:", "") for depth in range(shared, len(sections))]
        open_sections = sections
        lines.append((f"{'  ' * len(sections)}{name}: {yaml_value(value)}", origins[key]))
    width = min(max(len(text) for text, origin in lines if origin), LONG)
    return "\n".join(f"{text:<{width}}  # {origin}" if origin else text for text, origin in lines)


_PLAIN = re.compile(r"[A-Za-z/~.][\w/.:+-]*", re.ASCII)


def yaml_value(value: Any) -> str:
    """A value as one line that OmegaConf and any YAML 1.1 parser read the same."""
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and not value.endswith(":")
        safe = plain and yaml.safe_load(value) == value and OmegaConf.create(f"key: {value}") == {"key": value}
        return value if safe else json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return f"[{', '.join(yaml_value(item) for item in value)}]"
    if isinstance(value, BaseModel):
        return yaml_value(value.model_dump(mode="json", exclude_defaults=True))
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {yaml_value(item)}' for key, item in value.items())}}}"
    return str(yaml.safe_dump(value, width=math.inf)).removesuffix("\n").removesuffix("...").rstrip()


def write_config(config: Section, path: Path) -> None:
    """Write the resolved configuration as YAML that the same phase reads."""
    # OmegaConf's own writer quotes a string such as `1e-4`, which OmegaConf would read as a number.
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(config.model_dump(mode="json"))), encoding="utf-8")


def read_yaml(path: Path) -> Any:
    """The sections of a configuration file as an OmegaConf mapping.

    Raises:
        WorkbenchError: no such file, or not a YAML mapping in UTF-8.
    """
    path = here_or_shipped(path)
    if not path.is_file():
        folder = path.parent
        names = [p.name for p in folder.glob("*.yaml")] if folder.is_dir() else []
        close = nearest(path.name, names)
        raise WorkbenchError(
            path,
            "no such configuration file",
            expected="a YAML file, such as those under configs/",
            remedy=f"did you mean {folder / close}?" if close else None,
        )
    try:
        text = path.read_text(encoding="utf-8")
        loaded = OmegaConf.create(text)
    except yaml.YAMLError as error:
        raise _yaml_error(path, text, error) from None
    except OmegaConfBaseException as error:
        raise WorkbenchError(
            path, f"cannot be read: {str(error).splitlines()[0]}", remedy="write a literal `${` as `\\${`"
        ) from None
    except UnicodeDecodeError as error:
        raise WorkbenchError(path, f"not UTF-8 text ({error.reason} at byte {error.start})") from None
    if not OmegaConf.is_dict(loaded) or (text.strip() and ":" not in text):
        raise WorkbenchError(path, "holds no mapping", expected="sections such as `model:` and `data:`")
    return loaded


def _yaml_error(path: Path, text: str, error: yaml.YAMLError) -> WorkbenchError:
    mark = getattr(error, "problem_mark", None)
    said = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    line = next(iter(text.splitlines()[mark.line : mark.line + 1]), "") if mark else ""
    indent = line[: len(line) - len(line.lstrip())]
    return WorkbenchError(
        f"{path}:{mark.line + 1}" if mark else path,
        f"not valid YAML: {said}" + (f", in {line.strip()[:60]!r}" if line.strip() else ""),
        expected="key: value lines",
        remedy="indent with spaces: YAML does not allow tabs"
        if "\t" in indent
        else "put the value in quotes"
        if "mapping values" in said
        else None,
    )


def _read_overrides(overrides: Sequence[str]) -> Any:
    for text in overrides:
        if "=" not in text:
            raise WorkbenchError(
                f"command line: {text!r}", "not an override", expected="a.b=value, such as train.lr=1e-4"
            )
        try:
            OmegaConf.from_dotlist([text])
        except (yaml.YAMLError, OmegaConfBaseException) as error:
            key, value = text.split("=", 1)
            raise WorkbenchError(
                f"command line: {text!r}",
                f"the value is not valid YAML: {getattr(error, 'problem', None) or str(error).splitlines()[0]}",
                expected="a.b=value, such as train.lr=1e-4",
                remedy=f"quote it if it is a string: {key}='\"{value}\"'",
            ) from None
    try:
        return OmegaConf.from_dotlist(list(overrides))
    except OmegaConfBaseException as error:
        raise WorkbenchError(
            f"command line: {' '.join(overrides)}",
            f"the overrides contradict each other: {str(error).splitlines()[0]}",
            remedy="give a section's keys one by one",
        ) from None


def _tuples(value: Any) -> Any:
    """YAML lists as tuples: frozen sections hold tuples, and strict validation does not convert."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return value


def dotted(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested sections as one flat mapping, by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= dotted(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def known_keys(config_class: type[BaseModel], prefix: str = "") -> list[str]:
    """All dotted keys of a configuration class."""
    keys: list[str] = []
    for name, field in config_class.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += known_keys(field.annotation, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def _nearest_key(key: str, config_class: type[BaseModel]) -> str | None:
    known = known_keys(config_class)
    leaf = key.rsplit(".", 1)[-1]
    same_leaf = [k for k in known if k.rsplit(".", 1)[-1] == leaf]
    if same_leaf:
        return same_leaf[0]
    section = [k for k in known if k.rpartition(".")[0] == key.rpartition(".")[0]]
    return nearest(key, section) or nearest(key, known)


def _as_workbench_error(error: ValidationError, config_class: type[BaseModel], origin: Any) -> WorkbenchError:
    """All problems of the values in one error."""
    found = [_one_error(problem, config_class, origin) for problem in error.errors()]
    return found[0] if len(found) == 1 else SeveralErrors(found)


def _one_error(problem: Any, config_class: type[BaseModel], origin: Any) -> WorkbenchError:
    key = ".".join(str(part) for part in problem["loc"] if not isinstance(part, int))
    place = f"{origin(key)}: {key}" if key else "configuration"
    if problem["type"] == "extra_forbidden":
        close = _nearest_key(key, config_class)
        section = key.rpartition(".")[0]
        known = [k for k in known_keys(config_class) if k.rpartition(".")[0] == section]
        return WorkbenchError(
            place,
            "unknown key",
            expected=f"one of {', '.join(known)}" if known else None,
            remedy=f"did you mean {close}?" if close else None,
        )
    if problem["type"] == "missing":
        return _no_value(place, key)
    expected = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if problem["type"] == "tuple_type":
        expected = "a list: [one, another], or lines that begin with `- `"
    if problem["type"] == "too_short":
        least = problem["ctx"]["min_length"]
        expected = f"at least {least} {'entry' if least == 1 else 'entries'}, not {problem['ctx']['actual_length']}"
    if problem["type"] in ("model_type", "model_attributes_type"):
        expected = "a section: `key: value` lines, indented under its name"
    return WorkbenchError(place, f"value {repr(problem['input'])[:80]} is not right", expected=expected)
