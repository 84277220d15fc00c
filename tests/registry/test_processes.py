"""Registrations that run at once, and registrations that are killed."""

from __future__ import annotations

import multiprocessing
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from largeforge.recipe import model_ref
from largeforge.recipe.schema import Registry
from largeforge.registry import Lineage, ModelRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from multiprocessing.process import BaseProcess

    MakeModel = Callable[..., Path]

# Forked, so that MLflow is imported once here and a kill falls into the registration itself.
processes = multiprocessing.get_context("fork")


@pytest.fixture
def settings(tmp_path: Path) -> Registry:
    """A registry whose database is not made yet."""
    home = tmp_path / "registry"
    return Registry(uri=f"sqlite:///{home}/mlflow.db", artifacts=str(home / "artifacts"))


@pytest.fixture(autouse=True)
def mlflow_imported() -> None:
    from largeforge.registry.database import _quiet

    with _quiet():
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


def register(settings: Registry, name: str, folder: Path) -> int:
    made = ModelRegistry(settings).register(
        name, folder, kind="model", lineage=Lineage("r", "d", "l"), metrics={"score": 1.0}, alias="champion"
    )
    return made.version


def started(settings: Registry, work: Iterable[tuple[str, Path]]) -> BaseProcess:
    def run() -> None:
        for name, folder in work:
            register(settings, name, folder)

    process = processes.Process(target=run)
    process.start()
    return process


def assert_only_whole_versions(settings: Registry) -> int:
    """Every listed version must verify, and there must be no other files than theirs."""
    registry = ModelRegistry(settings)
    versions = [version for model in registry.list_models() for version in model.versions]
    paths = {registry.resolve(model_ref.parse(version.reference)).path for version in versions}
    assert len(paths) == len(versions)
    folder = Path(settings.artifacts)
    assert sorted(folder.glob("*/artifacts/model")) == sorted(paths)
    assert not list(folder.glob(".incoming-*"))
    return len(versions)


def test_six_at_once_on_a_fresh_store_lose_nothing(settings: Registry, make_model: MakeModel) -> None:
    work = [("same" if number < 4 else f"own-{number}", make_model(number)) for number in range(6)]
    running = [started(settings, [item]) for item in work]
    for process in running:
        process.join(60)
    assert [process.exitcode for process in running] == [0] * 6
    registry = ModelRegistry(settings)
    assert [version.version for version in registry.versions("same")] == [1, 2, 3, 4]
    assert [model.name for model in registry.list_models()] == ["own-4", "own-5", "same"]
    assert assert_only_whole_versions(settings) == 6


def test_six_at_once_with_the_same_files_make_one_version(settings: Registry, make_model: MakeModel) -> None:
    folder = make_model(1)
    running = [started(settings, [("same", folder)]) for _ in range(6)]
    for process in running:
        process.join(60)
    assert [process.exitcode for process in running] == [0] * 6
    assert assert_only_whole_versions(settings) == 1


@pytest.mark.parametrize("seed", range(4))
def test_killed_while_the_store_is_made(settings: Registry, make_model: MakeModel, seed: int) -> None:
    process = started(settings, [("m", make_model(1))])
    time.sleep(random.Random(seed).uniform(0.02, 1.0))
    process.kill()
    process.join()
    assert len(ModelRegistry(settings).list_models()) <= 1
    assert register(settings, "m", make_model(2)) in (1, 2)
    assert_only_whole_versions(settings)


def test_killed_again_and_again_leaves_only_whole_versions(settings: Registry, make_model: MakeModel) -> None:
    first = started(settings, [("m", make_model(0))])
    first.join()
    chance = random.Random(7)
    for attempt in range(8):
        folders = [make_model(1000 * attempt + number, size=3_000_000) for number in range(1, 6)]
        process = started(settings, [("m", folder) for folder in folders])
        time.sleep(chance.uniform(0.05, 0.9))
        process.kill()
        process.join()
        ended = started(settings, [("m", make_model(2000 * attempt))])
        ended.join(60)
        assert ended.exitcode == 0
    assert assert_only_whole_versions(settings) >= 8
    registry = ModelRegistry(settings)
    assert registry.resolve(model_ref.parse("registry:m")).digest == registry.versions("m")[-1].digest
