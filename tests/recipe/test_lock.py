"""The lock: the same for the same recipe and data wherever they lie, another when anything in it differs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from largeforge import artifacts
from largeforge.errors import RecipeError
from largeforge.hardware import Machine
from largeforge.recipe.folders import shipped_root
from largeforge.recipe.lock import dataset_hashes, lock, parse, portable, read

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


def test_prices_and_targets_decide_no_result(digest_of):
    assert digest_of("hardware.price_per_hour=2") == digest_of()
    serving = ("+serving=vllm_cpu", "serving.targets.requests_per_second=3")
    assert digest_of(*serving) == digest_of("+serving=vllm_cpu")
    assert digest_of("monitoring.retention_days=7", "slo.window_days=7") == digest_of()


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


def locked(folder, *overrides, machine=MACHINE, **more):
    composition = folder.composed(*overrides)
    recipe = folder.recipe(*overrides)
    return lock(recipe, machine, recipe_folder=composition.recipe_folder, hashes=dataset_hashes(recipe), **more)


def test_values_of_the_environment_do_not_enter_a_lock(folder, monkeypatch):
    folder.write(folder.trains)
    secrets = {name: f"secret-of-{name}" for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD")}
    for name, text in secrets.items():
        monkeypatch.setenv(name, text)
    text = json.dumps(locked(folder, "registry.uri=postgresql://me:hunter2@host/db"))
    assert not [secret for secret in [*secrets.values(), "hunter2"] if secret in text]
    assert "postgresql://host/db" in text


def test_the_password_of_a_registry_is_no_part_of_the_digest(digest_of):
    digests = {digest_of(f"registry.uri=postgresql://me:{word}@host/db") for word in ("one", "two")}
    assert len(digests) == 1


def test_where_a_run_begins_stands_beside_the_digest(folder):
    folder.write(folder.trains)
    here = locked(folder)
    elsewhere = locked(folder, machine=replace(MACHINE, driver="555.42"), packs={"acme": {"commit": "c" * 40}})
    assert here["digest"] == elsewhere["digest"]
    assert elsewhere["origin"]["driver"] == "555.42"
    assert elsewhere["origin"]["packs"] == {"acme": {"commit": "c" * 40}}


def test_the_content_of_a_base_model_is_part_of_the_digest_and_a_branch_of_the_hub_is_not(folder):
    folder.write(folder.trains)
    fixed = [locked(folder, models={"path:/m": {"sha256": sha256}})["digest"] for sha256 in "ab"]
    floating = [locked(folder, resolved={"hub:m": {"revision": revision}})["digest"] for revision in "ab"]
    assert len(set(fixed)) == 2
    assert len(set(floating)) == 1


def test_a_lock_is_read_as_it_was_written(folder):
    folder.write(folder.trains)
    written = locked(folder)
    artifacts.write_json(folder.path / "lock.json", written)
    assert read(folder.path / "lock.json") == written


def test_the_same_inputs_give_the_same_bytes(folder):
    folder.write(folder.trains)
    for name in ("a", "b"):
        artifacts.write_json(folder.path / name, locked(folder))
    assert (folder.path / "a").read_bytes() == (folder.path / "b").read_bytes()


def test_a_lock_that_was_changed_is_refused(folder):
    folder.write(folder.trains)
    altered = {**locked(folder), "python": "2.7"}
    with pytest.raises(RecipeError, match=r"mine\.json was changed after it was written"):
        parse(json.dumps(altered), source="mine.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"recipe": 1}', "[" * 100_000])
def test_what_is_no_lock_is_refused_in_one_sentence(text):
    with pytest.raises(RecipeError, match=r"x\.json is no lock"):
        parse(text, source="x.json")


def test_malformed_parts_that_no_digest_protects_are_left_out(folder):
    folder.write(folder.trains)
    odd = {"origin": {"git": "x", "driver": {}, "processor": "p"}, "resolved": {"stages": {"train": 1}, "models": []}}
    found = parse(json.dumps({**locked(folder), **odd}), source="x.json")
    assert (found["origin"], found["resolved"]) == ({"processor": "p"}, {"stages": {}})
