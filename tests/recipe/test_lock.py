"""The lock: the same for the same recipe and data wherever they lie, another when anything in it differs."""

from __future__ import annotations

import pytest

from largeforge.hardware import Machine
from largeforge.recipe.lock import dataset_hashes, lock, portable
from largeforge.recipe.sources import shipped_root

MACHINE = Machine("cpu", "", 0, 16.0, 4)


@pytest.fixture
def digest_of(folder):
    def digest(*overrides, machine=MACHINE):
        composition = folder.composed(*overrides)
        recipe = folder.recipe(*overrides)
        hashes = dataset_hashes(recipe)
        return lock(recipe, machine, recipe_folder=composition.recipe_folder, hashes=hashes)["digest"]

    folder.write(folder.trains)
    return digest


def test_the_same_twice_and_in_another_mode(digest_of):
    assert digest_of() == digest_of() == digest_of("mode=plan") == digest_of("runs.root=elsewhere")


def test_the_place_does_not_matter(folder, digest_of, monkeypatch):
    (folder.path / "rows.jsonl").write_text("{}\n")
    first = digest_of()
    other = folder.path / "copy"
    for name in ("rows.jsonl", "recipes/mine.yaml"):
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_bytes((folder.path / name).read_bytes())
    monkeypatch.chdir(other)
    assert digest_of() == first


def test_data_values_and_machine_matter(folder, digest_of):
    digests = [digest_of(), digest_of("seed=1"), digest_of(machine=Machine("cpu", "", 0, 16.0, 8))]
    for content in ("{}\n", "{ }\n"):
        (folder.path / "rows.jsonl").write_text(content)
        digests.append(digest_of())
    assert len(set(digests)) == len(digests)


def test_the_lock_says_what_it_covers(folder):
    (folder.path / "rows.jsonl").write_text("{}\n")
    folder.write(folder.trains)
    recipe = folder.recipe()
    content = lock(recipe, MACHINE, recipe_folder="", hashes=dataset_hashes(recipe))
    assert list(content["datasets"]) == ["rows.jsonl"]
    assert content["recipe"]["dataset"]["path"] == "rows.jsonl"
    assert content["packages"]["pydantic"]
    assert content["hardware"]["cores"] == 4


def test_portable(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = shipped_root() / "recipes"
    value = {"a": [str(tmp_path / "x"), "/etc/passwd", "/data"], "b": f"{shipped}/data/y", "c": "sqlite:///z", "d": 1}
    assert portable(value, "/data") == {
        "a": ["x", "/etc/passwd", "recipe:."],
        "b": "recipe:data/y",
        "c": "sqlite:///z",
        "d": 1,
    }
