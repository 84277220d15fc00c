"""What model references mean: by content where files are here, by the hub's cache, by the tables of a real registry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from largeforge import identity
from largeforge.recipe import model_ref
from largeforge.recipe.schema import Recipe, Registry
from largeforge.registry import Lineage, ModelRegistry

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = "a" * 40


def of(text: str, registry: Registry | None = None) -> dict[str, str]:
    return identity.of_model(model_ref.parse(text), registry or Registry())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    return folder


def test_a_folder_is_known_by_the_content_of_its_files(model: Path) -> None:
    before = of(f"path:{model}")
    (model / "model.safetensors").write_bytes(b"Weights")
    after = of(f"path:{model}")
    assert before["sha256"] != after["sha256"]
    assert before["tokenizer"] == after["tokenizer"]
    assert of(f"path:{model}/nowhere") == {}


def test_a_chat_template_is_the_same_in_either_of_its_places(model: Path) -> None:
    before = identity.parts(model)
    (model / "tokenizer_config.json").write_text("{}")
    assert "chat_template" not in identity.parts(model)
    (model / "chat_template.jinja").write_text("{{ messages }}")
    assert identity.parts(model)["chat_template"] == before["chat_template"]
    (model / "chat_template.jinja").write_text("{{ messages }}!")
    assert identity.parts(model)["chat_template"] != before["chat_template"]


def test_a_branch_of_the_hub_is_the_commit_in_the_local_cache(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert of("hub:org/name") == {}
    repository = tmp_path / "hub" / "models--org--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "snapshots").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    assert of("hub:org/name") == {}, "known by name, yet not downloaded"
    model.rename(repository / "snapshots" / COMMIT)
    assert of("hub:org/name")["revision"] == of(f"hub:org/name@{COMMIT}")["revision"] == COMMIT
    assert of("hub:org/name")["chat_template"]


def test_an_alias_is_the_version_that_the_registry_says(tmp_path: Path, model: Path) -> None:
    registry = Registry(uri=f"sqlite:///{tmp_path}/mlflow.db", artifacts=str(tmp_path / "artifacts"))
    assert of("registry:mine@champion", registry) == {}
    made = ModelRegistry(registry).register(
        "mine", model, kind="model", lineage=Lineage("r", "d", "lock0"), metrics={}, alias="champion"
    )
    expected = {"reference": "registry:mine/1", "sha256": made.digest, "lock": "lock0"}
    assert of("registry:mine@champion", registry) == of("registry:mine/1", registry) == expected
    assert of("registry:mine", registry) == expected
    assert of("registry:mine@other", registry) == of("registry:mine/2", registry) == {}


def test_a_database_that_is_none_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database")
    assert of("registry:mine", Registry(uri=f"sqlite:///{tmp_path}/mlflow.db")) == {}


def test_what_a_recipe_makes_itself_is_not_looked_up() -> None:
    job = {"dataset": {"path": "x"}, "method": {"name": "sft"}, "adapter": {"name": "none"}}
    recipe = Recipe.model_validate(
        {
            "name": "test",
            "hardware": {"name": "cpu"},
            "hosts": {"name": "local", "hosts": {"local": {"address": "local"}}},
            "launcher": {"name": "single"},
            "jobs": {
                "a": {**job, "model": {"ref": "registry:mine@champion"}, "register_as": "mine"},
                "b": {**job, "model": {"ref": "job:a"}},
                "c": {**job, "model": {"ref": "registry:mine/3"}},
            },
            "topology": {"experts": {"a": {"model": "registry:mine@champion"}, "d": {"model": "path:/m"}}},
        }
    )
    assert identity.references(recipe) == ["registry:mine/3", "path:/m"]
