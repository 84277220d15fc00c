"""Whole versions moved: exported, imported, deleted, backed up, lost and restored."""

from __future__ import annotations

import json
import shutil
import tarfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from largeforge.errors import RegistryError
from largeforge.recipe import model_ref, registered
from largeforge.recipe.hub import NotFound
from largeforge.recipe.lock import digest_of
from largeforge.recipe.schema import Registry
from largeforge.registry import GateResult, Lineage, ModelRegistry, backup, bundle, restoring, retention
from largeforge.registry.chain import chain
from largeforge.registry.copying import Meter
from largeforge.registry.promotion import promote

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Path]

_CONTENT: dict[str, Any] = {"recipe": {}, "models": {}, "datasets": {}, "packages": {}, "hardware": {}}
LOCK = {**_CONTENT, "digest": digest_of(_CONTENT), "origin": {"git": {"commit": "c0ffee"}}, "resolved": {}}
LINEAGE = Lineage("quickstart", "d1", LOCK["digest"], gates=[GateResult("loss", "< 9", 1.0, True)], stage="g.train")


def add(registry: ModelRegistry, folder: Path, name: str = "m", alias: str = "", **lineage: Any) -> None:
    registry.register(
        name, folder, kind="model", lineage=replace(LINEAGE, **lineage), metrics={"loss": 1.0}, alias=alias, lock=LOCK,
        tags={"team": "x"}, notes="good", card="# m",
    )  # fmt: skip


def at(home: Path) -> ModelRegistry:
    return ModelRegistry(Registry(uri=f"sqlite:///{home}/mlflow.db", artifacts=str(home / "artifacts")))


def ref(text: str) -> model_ref.ModelRef:
    return model_ref.parse(f"registry:{text}")


@pytest.fixture
def registry(settings: Registry) -> ModelRegistry:
    return ModelRegistry(settings)


@pytest.fixture
def other(tmp_path: Path, empty_database: Path) -> ModelRegistry:
    home = tmp_path / "other"
    home.mkdir()
    shutil.copy(empty_database, home / "mlflow.db")
    return at(home)


@pytest.mark.parametrize("name", ["m.tar", "folder"])
def test_an_exported_version_is_the_same_in_another_registry(
    registry: ModelRegistry, other: ModelRegistry, make_model: Make, tmp_path: Path, name: str
) -> None:
    add(registry, make_model(1), "base")
    add(registry, make_model(2), parents=["registry:base/1"])
    for seed in (8, 9):  # other numbers there
        add(other, make_model(seed), "base")
    bundle.export(registry, registry.find(ref("m/1")), tmp_path / name)
    with pytest.raises(RegistryError, match="is there already"):
        bundle.export(registry, registry.find(ref("m/1")), tmp_path / name)
    made = bundle.take(other, tmp_path / name, alias="champion", why="from the lab")
    found = registry.find(ref("m/1"))
    assert (made.digest, made.metrics, made.tags, made.notes) == (found.digest, found.metrics, {"team": "x"}, "good")
    assert made.lineage.origin.startswith("registry:m/1 of sqlite:///")
    assert made.lineage.gates == LINEAGE.gates
    assert other.lock(made) == LOCK
    assert (made.path / "README.md").read_text() == "# m"
    (parent,) = chain(other, made).parents
    assert (parent.role, parent.note) == ("outside", "not in this registry"), "base/1 is another model there"
    bundle.export(registry, registry.find(ref("base/1")), tmp_path / "base.tar")
    bundle.take(other, tmp_path / "base.tar")
    (parent,) = chain(other, made).parents
    assert parent.note == "here registry:base/3", "found by its content"
    assert [(each.action, each.why) for each in other.log("m")] == [("import", "from the lab")]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_damaged_bundle_is_not_entered(
    registry: ModelRegistry, other: ModelRegistry, make_model: Make, tmp_path: Path
) -> None:
    add(registry, make_model(1))
    version = registry.find(ref("m/1"))
    bundle.export(registry, version, tmp_path / "whole")
    bundle.export(registry, version, tmp_path / "whole.tar")

    def damaged(change: Callable[[Path], Any]) -> str:
        folder = Path(shutil.copytree(tmp_path / "whole", tmp_path / "damaged"))
        change(folder)
        with pytest.raises(RegistryError) as error:
            bundle.take(other, folder)
        shutil.rmtree(folder)
        return str(error.value)

    def change(name: str, old: str, new: str) -> Callable[[Path], Any]:
        return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new))

    weights = "model.safetensors"
    assert f"{weights} has 3 bytes instead of 2000" in damaged(lambda folder: (folder / weights).write_bytes(b"cut"))
    assert f"{weights} has another sha256" in damaged(lambda folder: (folder / weights).write_bytes(b"x" * 2000))
    assert "is missing" in damaged(lambda folder: (folder / weights).unlink())
    assert "not in its manifest" in damaged(lambda folder: (folder / "more.py").write_text("x"))
    assert "does not exist" in damaged(lambda folder: (folder / "largeforge.json").unlink())
    assert "lineage, metrics or lock" in damaged(
        change("largeforge.version.json", '\\"loss\\": 1.0', '\\"loss\\": 0.5')
    )
    assert "largeforge.lock.json" in damaged(change("largeforge.lock.json", "c0ffee", "decaf"))
    content = (tmp_path / "whole.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(content[: content.index(b"model.safetensors\0") + 1500])
    with pytest.raises(RegistryError, match=r"cut\.tar is damaged, nothing was registered"):
        bundle.take(other, tmp_path / "cut.tar")
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        tar.add(tmp_path / "whole" / "config.json", "../config.json")
    with pytest.raises(RegistryError, match=r"\.\./config\.json is no plain file of a model"):
        bundle.take(other, tmp_path / "evil.tar")
    assert other.list_models() == []
    assert not list(other.storage.folder.glob("*/artifacts")), "nothing is left of what was refused"


def test_what_is_in_use_is_not_deleted(registry: ModelRegistry, make_model: Make, settings: Registry) -> None:
    for seed in range(1, 6):
        add(registry, make_model(seed), "base")
    add(registry, make_model(11), "m", parents=["registry:base/1"])
    promote(registry, ref("base/2"), alias="champion", why="x")
    with pytest.raises(RegistryError, match="it is @champion"):
        retention.plan_one(registry, ref("base/2"))
    with pytest.raises(RegistryError, match="registry:m/1 was made from it"):
        retention.plan_one(registry, ref("base/1"))
    decided = retention.plan(registry, "base", keep=1)
    assert [version.version for version in decided.doomed] == [3, 4]
    assert [reason for _, reason in decided.kept] == [
        "registry:m/1 was made from it", "it is @champion", "one of the newest 1",
    ]  # fmt: skip
    folders = [registry.storage.folder / version.run_id for version in decided.doomed]
    assert all(folder.is_dir() for folder in folders), "deciding deletes nothing"
    for version in decided.doomed:
        retention.delete(registry, version, why="old")
    assert [version.version for version in registry.versions("base")] == [1, 2, 5]
    assert not any(folder.exists() for folder in folders)
    with pytest.raises(NotFound):  # where MLflow is not imported
        registered.version(ref("base/3"), settings)
    assert registered.version(ref("base/5"), settings).number == "5"
    assert [(each.version, each.why) for each in registry.log("base") if each.action == "delete"] == [
        ("3", "old"), ("4", "old"),
    ]  # fmt: skip
    add(registry, make_model(3), "base")
    assert [version.version for version in registry.versions("base")] == [1, 2, 5, 6], (
        "a number means one model for ever"
    )


def test_a_deletion_that_was_killed_is_followed_up(
    registry: ModelRegistry, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(registry, make_model(1))
    version = registry.find(ref("m/1"))
    with monkeypatch.context() as patch:
        patch.setattr(retention.runs, "discard", lambda *_: None)  # killed before its files went
        retention.delete(registry, version, why="old")
    assert registry.versions("m") == []
    assert (registry.storage.folder / version.run_id).is_dir()
    add(registry, make_model(2))
    assert not (registry.storage.folder / version.run_id).exists()
    registry.resolve(ref("m/2"))


def test_a_lost_store_is_restored_from_incremental_backups(
    registry: ModelRegistry, make_model: Make, tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    add(registry, make_model(1), alias="champion")
    tracked = registry.storage.folder / "0123" / "artifacts" / "plot.txt"
    tracked.parent.mkdir(parents=True)
    tracked.write_text("a tracked run's file")
    first = backup.backup(registry, folder)
    add(registry, make_model(2), alias="champion")
    second = backup.backup(registry, folder)
    assert (first.versions, second.versions) == (1, 2)
    assert second.copied_bytes < first.copied_bytes + 4000, "only what is new is copied"
    before = {version.reference: version for version in registry.versions("m")}
    trail = registry.log("m")
    lost = registry.storage.folder.parent
    shutil.rmtree(lost)
    snapshot = backup.read(folder)
    assert backup.check(folder, snapshot, Meter(None, "", 0)) == []
    again = at(lost)
    assert restoring.restore(again, folder, snapshot).versions == 2
    assert {version.reference: version for version in again.versions("m")} == before
    assert again.log("m") == trail
    for number in (1, 2):
        again.verify(again.find(ref(f"m/{number}")))
    assert again.lock(again.resolve(ref("m"))) == LOCK
    assert tracked.read_text() == "a tracked run's file"
    add(again, make_model(3))
    assert again.find(ref("m/3")).version == 3

    with pytest.raises(RegistryError, match="is there already; --replace moves it aside"):
        restoring.restore(again, folder, snapshot)
    done = restoring.restore(again, folder, backup.read(folder, backup.snapshots(folder)[0]), replace=True)
    assert len(done.aside) == 2
    assert [version.version for version in at(lost).versions("m")] == [1]


def test_a_backup_is_whole_while_others_register_and_delete(
    registry: ModelRegistry, make_model: Make, tmp_path: Path
) -> None:
    add(registry, make_model(0), alias="champion")
    stop = threading.Event()
    faults: list[BaseException] = []

    def write() -> None:
        try:
            for seed in range(1, 50):
                add(registry, make_model(seed))
                if seed % 2:
                    retention.delete(registry, registry.versions("m")[-1], why="x")
                if stop.is_set():
                    return
        except BaseException as error:
            faults.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    reports = [
        backup.backup(
            ModelRegistry(Registry(uri=registry.database.uri, artifacts=str(registry.storage.folder))), tmp_path / "b"
        )
        for _ in range(3)
    ]
    stop.set()
    writer.join()
    assert not faults
    assert not [fault for report in reports for fault in report.damaged]
    for number, name in enumerate(backup.snapshots(tmp_path / "b")):
        restored = at(tmp_path / f"restored-{number}")
        restoring.restore(restored, tmp_path / "b", backup.read(tmp_path / "b", name))
        versions = restored.versions("m")
        assert versions
        for version in versions:
            restored.verify(version)


def test_damage_is_reported_and_never_restored(registry: ModelRegistry, make_model: Make, tmp_path: Path) -> None:
    add(registry, make_model(1))
    add(registry, make_model(2))
    weights = registry.resolve(ref("m/1")).path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(b"x" * 2000)
    report = backup.backup(registry, tmp_path / "b")
    assert report.versions == 1
    assert "registry:m/1 is damaged" in report.damaged[0] and "not what was registered" in report.damaged[0]
    weights.write_bytes(whole)
    assert backup.backup(registry, tmp_path / "b").versions == 2
    snapshot = backup.read(tmp_path / "b")
    sha256 = snapshot.models["m"][0]["files"]["model.safetensors"]["sha256"]
    kept = tmp_path / "b" / "objects" / sha256[:2] / sha256
    kept.write_bytes(b"y" * 2000)
    assert [sha256 in fault for fault in backup.check(tmp_path / "b", snapshot, Meter(None, "", 0))] == [True]
    with pytest.raises(RegistryError, match="the backup is damaged"):
        restoring.restore(at(tmp_path / "r"), tmp_path / "b", snapshot)
    assert not (tmp_path / "r" / "mlflow.db").exists()
    with pytest.raises(RegistryError, match="is no backup: it has no snapshots"):
        backup.read(tmp_path)
    with pytest.raises(RegistryError, match="has no snapshot of 1999"):
        backup.read(tmp_path / "b", "1999")
    path = tmp_path / "b" / "snapshots" / f"{snapshot.time}.json"
    path.write_text(json.dumps({"format": 99}))
    with pytest.raises(RegistryError, match="later LargeForge"):
        backup.read(tmp_path / "b", snapshot.time)
