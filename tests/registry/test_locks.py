"""The lock of the run that made a version: beside its files, never part of what the model is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from largeforge.errors import RegistryError
from largeforge.recipe import model_ref
from largeforge.recipe.lock import digest_of
from largeforge.registry import Lineage, ModelRegistry, ModelVersion

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from largeforge.recipe.schema import Registry

    MakeModel = Callable[..., Path]

LINEAGE = Lineage(recipe="quickstart", recipe_digest="d1", lock="")


def lock(seed: int) -> dict[str, Any]:
    content = {"recipe": {"seed": seed}, "models": {}, "datasets": {}, "packages": {}, "hardware": {}}
    return {**content, "digest": digest_of(content), "origin": {"processor": "p"}, "resolved": {}}


def register(registry: ModelRegistry, folder: Path, found: dict[str, Any]) -> ModelVersion:
    lineage = replace(LINEAGE, lock=found["digest"])
    return registry.register("m", folder, kind="model", lineage=lineage, metrics={}, alias="champion", lock=found)


def resolved(registry: ModelRegistry) -> ModelVersion:
    return registry.resolve(model_ref.parse("registry:m"))


def test_a_version_keeps_its_lock_and_still_verifies(settings: Registry, make_model: MakeModel) -> None:
    register(ModelRegistry(settings), make_model(1), lock(1))
    registry = ModelRegistry(settings)
    assert registry.lock(resolved(registry)) == lock(1)


def test_the_same_files_keep_the_lock_of_the_run_that_made_them(settings: Registry, make_model: MakeModel) -> None:
    registry = ModelRegistry(settings)
    first = register(registry, make_model(1), lock(1))
    assert register(registry, make_model(1), lock(2)).version == first.version
    assert registry.lock(resolved(registry)) == lock(1)
    (first.path / "model.safetensors").write_bytes(b"damaged")
    register(registry, make_model(1), lock(2))  # puts the files back, not another run's lock
    assert registry.lock(resolved(registry)) == {}


def test_a_lock_in_the_folder_to_register_is_not_taken_for_its_own(settings: Registry, make_model: MakeModel) -> None:
    registry = ModelRegistry(settings)
    folder = make_model(1)
    (folder / "largeforge.lock.json").write_text(json.dumps(lock(9)))
    register(registry, folder, lock(1))
    assert registry.lock(resolved(registry)) == lock(1)


@pytest.mark.parametrize("content", ["{", json.dumps({**lock(1), "python": "2.7"}), json.dumps(lock(2))])
def test_a_lock_that_is_not_the_registered_one_is_refused(
    settings: Registry, make_model: MakeModel, content: str
) -> None:
    registry = ModelRegistry(settings)
    made = register(registry, make_model(1), lock(1))
    (made.path / "largeforge.lock.json").write_text(content)
    with pytest.raises(RegistryError, match=r"registry:m/1 is damaged"):
        registry.lock(resolved(registry))
