"""The shipped hardware profiles, and which of them the GPU of this machine is."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from largeforge import hardware
from largeforge.errors import Problem, RecipeError
from largeforge.recipe import folders, sources
from largeforge.recipe.places import short
from largeforge.recipe.schema import Hardware
from largeforge.recipe.vetting import vet

if TYPE_CHECKING:
    from largeforge.hardware import Gpu

MEMORY_TOLERANCE = 0.1
"""Share by which a card's memory may differ from its profile's; cards of one name come with 8 and with 16 GB."""


def completed(given: Hardware) -> Hardware:
    """Return `given` with the figures of the profile that knows this machine's device; its own figures are kept.

    Hardware that names no GPU is completed with the profile of the GPU that is found, or that of the CPU. Of a profile
    that was given another `memory_gib`, the usable memory goes, since it was that of the profile's own memory.
    """
    if given.gpu:
        return given.model_copy(update={"usable_memory_gib": 0.0}) if _is_resized(given) else given
    profile = _of_this_machine(given.device)
    if profile is None:
        return given
    skipped = {"name", "device", "num_gpus", "cores", "memory_gib"}
    figures = {key: value for key, value in profile.model_dump(exclude=skipped).items() if not getattr(given, key)}
    return given.model_copy(update=figures)


def profile_of(gpu: Gpu) -> Hardware | None:
    """Return the profile that knows a GPU by its driver's name and its memory."""
    for profile in profiles():
        same_memory = abs(gpu.memory_gib - profile.memory_gib) <= MEMORY_TOLERANCE * profile.memory_gib
        if gpu.name in profile.gpu_names and same_memory:
            return profile
    return None


@cache
def profiles() -> tuple[Hardware, ...]:
    """Return all shipped profiles but `auto`."""
    return tuple(Hardware(**_content(path)) for path in _files() if path.stem != "auto")


def _is_resized(given: Hardware) -> bool:
    profile = next((profile for profile in profiles() if profile.name == given.name), None)
    if profile is None or profile.memory_gib == given.memory_gib:
        return False
    return profile.usable_memory_gib == given.usable_memory_gib


def named(name: str) -> Hardware | None:
    """Return a choice of `conf/hardware/` by its name, the working directory's own included; None for another name.

    Raises RecipeError for a file that is no sound choice.
    """
    path = sources.choices("hardware").get(name)
    if path is None:
        return None
    vetted = vet(path)
    if vetted.problems:
        raise RecipeError(vetted.problems)
    try:
        return Hardware.model_validate(yaml.safe_load(vetted.text))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise RecipeError([Problem(key, f"{first['msg']}.", short(path))]) from None


def _of_this_machine(device: str) -> Hardware | None:
    found = hardware.gpus()
    if device == "cpu" or (device == "auto" and not found):
        return next(profile for profile in profiles() if profile.device == "cpu")
    return profile_of(found[0]) if found else None


def _files() -> list[Path]:
    return sorted((folders.shipped_root() / "conf" / "hardware").glob("*.yaml"))


def _content(path: Path) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return dict(yaml.load(path.read_text(encoding="utf-8"), Loader=loader))
