"""The shipped configurations: in the checkout, or inside the installed package."""

from pathlib import Path

NAME = "configs"


def shipped_configs() -> Path:
    """The folder of shipped configurations. A wheel holds it as `workbench/configs`, a checkout as `configs`."""
    package = Path(__file__).parents[1]
    installed = package / NAME
    return installed if installed.is_dir() else package.parent / NAME


def here_or_shipped(path: Path) -> Path:
    """The path itself, or the shipped file if the path begins with `configs/` and does not exist.

    With this, the documented commands run from any working directory.
    """
    if path.exists() or path.parts[:1] != (NAME,):
        return path
    shipped = shipped_configs().joinpath(*path.parts[1:])
    return shipped if shipped.is_file() else path
