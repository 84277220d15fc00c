"""Checkpoints on a disk: sealed, kept, verified, cleaned up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from largeforge.training import checkpoints
from largeforge.training.checkpoints import Store


def store(folder: Path, *steps: int, limit: int = 2, best: int | None = None) -> Store:
    """Return a store in which checkpoints of these steps were saved one after the other."""
    made = Store(folder / "checkpoints", limit)
    for step in steps:
        save(made, step, best=best)
    return made


def save(made: Store, step: int, *, best: int | None = None) -> None:
    written = made.saving / f"checkpoint-{step}"
    (written / "parts").mkdir(parents=True)
    (written / "model.safetensors").write_bytes(bytes(range(256)) * step)
    (written / "parts" / "0.distcp").write_text(f"part of {step}")
    (written / "empty.json").touch()
    made.commit(step, {"step": step, "processes": 1}, best=best)


def test_what_was_saved_last_is_continued_from(tmp_path: Path) -> None:
    made = store(tmp_path, 5, 10)
    assert made.newest() == (made.path(10), [])
    assert checkpoints.facts(made.path(10))["step"] == 10
    assert not list(made.saving.iterdir())


def test_without_a_checkpoint_there_is_none(tmp_path: Path) -> None:
    made = store(tmp_path)
    assert made.newest() == (None, [])
    made.clean(after=None)


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    assert store(tmp_path / "a", 5, 10, 15, 20).steps() == [20, 15]
    assert store(tmp_path / "b", 5, 10, 15, 20, best=5).steps() == [20, 15, 5]
    assert store(tmp_path / "c", 5, 10, 15, 20, best=20).steps() == [20, 15]


DAMAGES = {
    "model.safetensors is missing": lambda path: (path / "model.safetensors").unlink(),
    "model.safetensors has 7 bytes instead of 2560": lambda path: os.truncate(path / "model.safetensors", 7),
    "0.distcp is not what was saved": lambda path: (path / "parts" / "0.distcp").write_text("part of 1O"),
    "its seal cannot be read": lambda path: os.truncate(path / checkpoints.SEAL, 20),
}


@pytest.mark.parametrize("reason", DAMAGES)
def test_a_damaged_one_is_skipped_for_the_one_before(tmp_path: Path, reason: str) -> None:
    made = store(tmp_path, 5, 10)
    DAMAGES[reason](made.path(10))
    found, damaged = made.newest()
    assert found == made.path(5)
    assert [one.path for one in damaged] == [made.path(10)]
    assert reason in str(damaged[0])
    made.clean(after=found)
    assert not made.path(10).exists()
    save(made, 10)
    assert made.newest() == (made.path(10), [])


def test_a_seal_of_another_hash_is_verified_with_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "HASH", "sha256")
    made = store(tmp_path, 5)
    monkeypatch.setattr(checkpoints, "HASH", "blake3")
    save(made, 10)
    assert not checkpoints.damage(made.path(5))
    assert not checkpoints.damage(made.path(10))
    (made.path(5) / "parts" / "0.distcp").write_text("part of 6")
    assert checkpoints.damage(made.path(5))


def test_what_a_killed_process_left_is_removed_and_what_is_good_stays(tmp_path: Path) -> None:
    made = store(tmp_path, 5, 10)
    (made.saving / "checkpoint-15").mkdir(parents=True)
    (made.saving / "checkpoint-15" / "model.safetensors").write_bytes(b"half")
    (made.path(3) / "deep").mkdir(parents=True)  # its seal was removed first
    save(made, 20)
    made.path(20).rename(made.path(10_000))  # of a future that is not continued from
    (made.folder / "README.md").touch()
    made.clean(after=made.path(10))
    assert sorted(path.name for path in made.folder.iterdir()) == ["README.md", "checkpoint-10"]


def test_a_removal_that_was_killed_leaves_nothing_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = store(tmp_path, 5, 10)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.remove(made.path(10))
    assert made.path(10).exists()
    assert made.newest() == (made.path(5), [])
