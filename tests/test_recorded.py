"""Finding runs, models and locks by what a person types."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from largeforge.errors import LargeForgeError, RecipeError, RegistryError
from largeforge.recipe import model_ref
from largeforge.recipe.lock import read
from largeforge.recipe.schema import Registry
from largeforge.recorded import Recorded, find, rows
from largeforge.registry import Lineage, ModelRegistry
from tests.fakes.recorded import Desk

OLD = Path(__file__).parent / "reproduce" / "locks" / "small_before_deploy_update.json"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path)


def found(text: str) -> Recorded:
    return find(text, root=Path("runs"), registry=Registry())


def test_a_run_is_found_by_its_folder_digest_recipe_and_lock(desk: Desk) -> None:
    run = desk.record(loss=1.5)
    digest = desk.plan().digest
    for text in (str(run), str(run.relative_to(desk.path)), digest, digest[:8], digest[:5], "latest:small"):
        recorded = found(text)
        assert recorded.lock == read(run / "lock.json")
        assert recorded.stages["evaluate"].metrics == {"loss": 1.5}
        assert rows(recorded) == {"": 3}
    assert found(str(run / "lock.json")).stages == {}


def test_the_newest_run_counts(desk: Desk) -> None:
    first, second = desk.record(weights=b"a"), desk.record("seed=1")
    later = second.with_name(f"99990101T000000-{second.name[-8:]}")
    second.rename(later)
    assert found("latest:small").path == Path("runs/small") / later.name / "lock.json"
    again = first.with_name(f"99990102T000000-{first.name[-8:]}")
    shutil.copytree(first, again)
    assert found(first.name[-8:]).path == Path("runs/small") / again.name / "lock.json"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smal", r"no such run, model or lock.* Did you mean 'latest:small'\?"),
        ("latest:smal", r"no run of it in runs.* Did you mean 'latest:small'\?"),
        ("00000000", r"no run in runs has a digest that begins so"),
        ("runs/small", r"is no run directory.*it holds"),
        ("recipes/small.yaml", r"small\.yaml is no lock"),
        ("registry:a/b/c", r"malformed registry: reference"),
    ],
)
def test_what_is_not_there_is_one_clear_error(desk: Desk, text: str, message: str) -> None:
    desk.record()
    with pytest.raises(RecipeError, match=message):
        found(text)


def test_locks_of_before_a_rename_are_read_in_the_keys_of_today(desk: Desk) -> None:
    run, old = desk.record(), read(OLD)
    (run / "lock.json").write_text(OLD.read_text())
    folder = desk.path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"old")
    lineage = Lineage("small", "d", old["digest"], stage="train")
    registry = ModelRegistry(Registry())
    registry.register("m", folder, kind="model", lineage=lineage, metrics={}, alias="champion", lock=old)
    for text in (str(run), str(OLD), "registry:m@champion"):
        lock = found(text).lock
        assert lock["digest"] == old["digest"]
        assert lock["recipe"]["deploy"]["update"] == old["recipe"]["deploy"]["rollout"], text
        assert "rollout" not in lock["recipe"]["deploy"]
    registry.verify(registry.resolve(model_ref.parse("registry:m")))


def test_a_registered_model_has_its_lock_without_its_run(desk: Desk) -> None:
    run = desk.record(weights=b"registered")
    folder = desk.path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    shutil.copy(run / "train" / "out" / "model.safetensors", folder)
    lock = read(run / "lock.json")
    lineage = Lineage("small", "d", lock["digest"], run_dir=str(run), stage="train")
    registry = ModelRegistry(Registry())
    registry.register("m", folder, kind="model", lineage=lineage, metrics={"loss": 2.0}, alias="champion", lock=lock)
    shutil.rmtree(run)
    recorded = found("registry:m@champion")
    assert (recorded.lock, recorded.target, recorded.label) == (lock, "train", "registry:m/1")
    assert recorded.stages["evaluate"].metrics == {"loss": 2.0}
    assert list(recorded.stages["train"].weights) == ["model.safetensors"]
    (registry.resolve(model_ref.parse("registry:m")).path / "largeforge.lock.json").unlink()
    with pytest.raises(RegistryError, match="registered without a lock, and its run is not on this machine"):
        found("registry:m@champion")
    with pytest.raises(LargeForgeError, match="no model 'other' is registered"):
        found("registry:other")
