"""Where recipes and choices are kept: LargeForge's own folders, and what they are called everywhere."""

from __future__ import annotations

from pathlib import Path

import largeforge

GROUP_FOLDERS = {"recipe": "recipes", "hosts": "hosts"}
"""Config group to the folder, beside `conf/`, that holds its choices."""


def shipped_root() -> Path:
    """Return the folder that holds LargeForge's own `conf/`, `recipes/` and `hosts/`."""
    package = Path(largeforge.__file__).resolve().parent
    installed = package / "shipped"
    return installed if installed.is_dir() else package.parent


def commands() -> list[str]:
    """Return the names of the commands beside recipes, each a file under `largeforge/commands/`."""
    files = (Path(largeforge.__file__).parent / "commands").glob("[a-z]*.py")
    return sorted(file.stem.replace("_", "-") for file in files)
