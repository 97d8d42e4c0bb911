"""`python -m workbench init DIR`: a folder for your own project, with configurations and a README of next steps."""

import shutil
from pathlib import Path

from workbench.run.checkpoints import make_folder, refusal_explained
from workbench.run.errors import WorkbenchError
from workbench.run.shipped import shipped_configs

README = Path(__file__).parent / "templates/project.md"


def start_project(folder: Path) -> None:
    """Write `configs/`, `data/` and `README.md` into a new or empty folder.

    Raises:
        WorkbenchError: the folder holds something, or cannot be written.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise WorkbenchError(
            folder,
            "is a file" if folder.is_file() else "is not empty",
            expected="a new or empty folder",
            remedy=f"give another folder, or copy files from the shipped configurations: {shipped_configs()}",
        )
    make_folder(folder)
    with refusal_explained(folder):
        shutil.copytree(shipped_configs(), folder / "configs", copy_function=shutil.copyfile)
        (folder / "data").mkdir()
        shutil.copyfile(README, folder / "README.md")
