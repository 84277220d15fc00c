"""The git commit that a recipe was composed from. Git is asked once and may run nothing of the repository."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from largeforge.recipe import folders

_TIMEOUT_S = 5


def git(recipe_folder: Path) -> dict[str, Any]:
    """Return `{"commit", "dirty"}` of the repository with these recipes; empty without git or repository.

    Dirty means: something below `conf/`, `recipes/` or `hosts/` beside the recipe, untracked files
    included, is not as it was committed. Nothing else of the repository is looked at.
    """
    root = recipe_folder.parent
    if root == folders.shipped_root() and root.name == "shipped":  # installed: the repository is somebody else's
        return {}
    known = [name for name in ("conf", *folders.GROUP_FOLDERS.values()) if (root / name).is_dir()]
    command = [
        "git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(root),
        "status", "--porcelain=v2", "--branch", "--", *known,
    ]  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, env=environment, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = ended.stdout.splitlines() if ended.returncode == 0 and known else []
    commit = next((line.removeprefix("# branch.oid ") for line in lines if line.startswith("# branch.oid ")), "")
    if not commit or commit == "(initial)":
        return {}
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}
