"""Registering, finding, refusing: on a local registry, in this process."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from omegaconf import OmegaConf

from largeforge.errors import RegistryError
from largeforge.recipe import model_ref
from largeforge.recipe.schema import Registry
from largeforge.registry import GateResult, Lineage, ModelRegistry, ModelVersion

if TYPE_CHECKING:
    from collections.abc import Callable

    MakeModel = Callable[..., Path]

LINEAGE = Lineage(
    recipe="quickstart",
    recipe_digest="d1",
    lock="l1",
    data_sha256={"train.jsonl": "00ff"},
    parents=["registry:quickstart-general/1"],
    run_dir="runs/quickstart/x",
    stage="mapper.train",
    fingerprint="f1",
    gates=[GateResult("exact_match", ">= 0.85", 0.9, True), GateResult("loss", "< 9", None, True)],
)


def register(registry: ModelRegistry, folder: Path, name: str = "mapper", alias: str = "champion") -> ModelVersion:
    return registry.register(
        name, folder, kind="model", lineage=LINEAGE, metrics={"exact_match": 0.9, "p@1": math.inf}, alias=alias
    )


def resolve(registry: ModelRegistry, text: str) -> ModelVersion:
    return registry.resolve(model_ref.parse(text))


def test_what_was_registered_is_found_by_alias_version_and_default(settings: Registry, make_model: MakeModel) -> None:
    made = register(ModelRegistry(settings), make_model(1))
    again = ModelRegistry(settings)
    for text in ("registry:mapper", "registry:mapper@champion", "registry:mapper/1"):
        assert resolve(again, text) == made
    assert (made.reference, made.kind, made.lock, made.version) == ("registry:mapper/1", "model", "l1", 1)
    assert made.lineage == LINEAGE
    assert made.metrics == {"exact_match": 0.9, "p@1": math.inf}
    for name in ("config.json", "model.safetensors", "tokenizer/vocab.json"):
        assert (made.path / name).read_bytes() == (make_model(1) / name).read_bytes()
    manifest = json.loads((made.path / "largeforge.json").read_text(), parse_constant=pytest.fail)
    assert manifest["files"]["model.safetensors"]["size"] == 2000
    assert manifest["lineage"]["recipe"] == "quickstart"


def test_mlflow_shows_the_metrics_lineage_and_files(settings: Registry, make_model: MakeModel) -> None:
    made = register(ModelRegistry(settings), make_model(1))
    with ModelRegistry(settings).database.reading() as client:
        run = client.get_run(made.run_id)
        version = client.get_model_version_by_alias("mapper", "champion")
        shown = {item.path for item in client.list_artifacts(made.run_id, "model")}
    assert run.info.status == "FINISHED"
    assert run.data.metrics["exact_match"] == 0.9
    assert version.tags["largeforge.recipe"] == "quickstart"
    assert {"model/config.json", "model/largeforge.json"} <= shown


def test_a_new_version_takes_the_alias(settings: Registry, make_model: MakeModel) -> None:
    registry = ModelRegistry(settings)
    register(registry, make_model(1))
    register(registry, make_model(2))
    register(registry, make_model(3), alias="challenger")
    assert resolve(registry, "registry:mapper").version == 2
    assert [version.aliases for version in registry.versions("mapper")] == [
        ("previous",),
        ("champion",),
        ("challenger",),
    ]
    assert registry.list_models()[0].aliases == {"previous": 1, "champion": 2, "challenger": 3}


def test_the_same_files_stay_one_version(settings: Registry, make_model: MakeModel) -> None:
    registry = ModelRegistry(settings)
    register(registry, make_model(1))
    register(registry, make_model(2))
    again = register(registry, make_model(1))
    assert (again.version, again.aliases) == (1, ("champion",))
    assert len(registry.versions("mapper")) == 2
    assert register(registry, make_model(1), name="other").reference == "registry:other/1"
    assert register(registry, again.path).version == 1


@pytest.mark.parametrize("harm", ["flip", "cut", "delete", "add", "manifest", "no manifest"])
def test_damage_is_refused_by_the_name_of_the_file(settings: Registry, make_model: MakeModel, harm: str) -> None:
    registry = ModelRegistry(settings)
    path = register(registry, make_model(1)).path
    weights, manifest = path / "model.safetensors", path / "largeforge.json"
    data = bytearray(weights.read_bytes())
    data[700] ^= 1
    named = weights
    if harm == "flip":
        weights.write_bytes(data)
    elif harm == "cut":
        weights.write_bytes(data[:-1])
    elif harm == "delete":
        weights.unlink()
    elif harm == "add":
        named = path / "model-2.safetensors"
        named.write_bytes(data)
    elif harm == "manifest":
        named = manifest
        manifest.write_text(manifest.read_text().replace('"size": 2000', '"size": 2001'))
    else:
        named = manifest
        manifest.unlink()
    with pytest.raises(RegistryError, match="registry:mapper/1 is damaged") as error:
        resolve(registry, "registry:mapper")
    assert str(named) in str(error.value)
    register(registry, make_model(1))
    assert resolve(registry, "registry:mapper").version == 1


def test_a_missing_model_names_the_nearest_and_what_to_run(settings: Registry, make_model: MakeModel) -> None:
    registry = ModelRegistry(settings)
    with pytest.raises(RegistryError, match="nothing is registered there"):
        resolve(registry, "registry:mapper")
    assert registry.list_models() == []
    assert not Path(settings.artifacts).exists()
    register(registry, make_model(1), name="quickstart-general")
    with pytest.raises(RegistryError) as error:
        resolve(registry, "registry:quickstart-genral@champion")
    for part in ("'quickstart-genral'", "Did you mean 'registry:quickstart-general'", "python -m largeforge +recipe="):
        assert part in str(error.value)


def test_a_missing_alias_or_version_names_those_there_are(settings: Registry, make_model: MakeModel) -> None:
    registry = ModelRegistry(settings)
    register(registry, make_model(1))
    with pytest.raises(RegistryError) as error:
        resolve(registry, "registry:mapper@champoin")
    for part in ("@champion (version 1)", "Did you mean 'registry:mapper@champion'", "+recipe=quickstart"):
        assert part in str(error.value)
    with pytest.raises(RegistryError, match=r"no version '7'; it has versions 1 "):
        resolve(registry, "registry:mapper/7")


@pytest.mark.parametrize(
    ("name", "alias"), [("a/b", "champion"), ("..", "champion"), ("m", "v1"), ("m", "latest"), ("m", "a.b")]
)
def test_names_that_mlflow_would_refuse_are_refused_first(
    settings: Registry, make_model: MakeModel, name: str, alias: str
) -> None:
    with pytest.raises(RegistryError, match=r"register_(as|alias) = "):
        register(ModelRegistry(settings), make_model(1), name=name, alias=alias)
    assert not Path(settings.artifacts).exists()


def test_a_folder_that_cannot_be_a_model_leaves_nothing(
    settings: Registry, make_model: MakeModel, tmp_path: Path
) -> None:
    registry = ModelRegistry(settings)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RegistryError, match="holds no files"):
        register(registry, tmp_path / "empty")
    linked = make_model(1)
    (linked / "more").symlink_to(make_model(2))
    with pytest.raises(RegistryError, match="more is a link to a folder"):
        register(registry, linked)
    assert registry.list_models() == []
    assert not list(Path(settings.artifacts).glob(".incoming-*"))


def test_links_to_files_are_copied_as_files(settings: Registry, make_model: MakeModel) -> None:
    folder = make_model(1)
    (folder / "model.safetensors").rename(folder.parent / "blob")
    (folder / "model.safetensors").symlink_to(folder.parent / "blob")
    path = register(ModelRegistry(settings), folder).path
    assert not (path / "model.safetensors").is_symlink()


def test_a_registry_can_be_moved(settings: Registry, make_model: MakeModel, tmp_path: Path) -> None:
    register(ModelRegistry(settings), make_model(1))
    home = Path(settings.artifacts).parent
    moved = Path(shutil.move(home, tmp_path / "moved"))
    registry = ModelRegistry(Registry(uri=f"sqlite:///{moved}/mlflow.db", artifacts=str(moved / "artifacts")))
    assert moved in resolve(registry, "registry:mapper").path.parents
    assert register(registry, make_model(2)).version == 2
    assert not home.exists()


def test_paths_are_relative_to_the_working_directory(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = register(ModelRegistry(Registry()), make_model(1))
    assert tmp_path / "registry" / "artifacts" in made.path.parents
    assert (tmp_path / "registry" / "mlflow.db").is_file()


def test_versions_that_others_made_are_not_ours(settings: Registry, make_model: MakeModel) -> None:
    registry = ModelRegistry(settings)
    register(registry, make_model(1))
    with registry.database.writing() as client:
        client.create_model_version("mapper", "s3://elsewhere/model")
    assert [version.version for version in registry.versions("mapper")] == [1]
    assert register(registry, make_model(2)).version == 3


def test_a_server_that_is_not_there_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry = ModelRegistry(Registry(uri="http://user:secret@127.0.0.1:9", artifacts=str(tmp_path)))
    with pytest.raises(RegistryError, match=r"registry http://127\.0\.0\.1:9: ") as error:
        registry.list_models()
    assert "secret" not in str(error.value)


def test_nothing_is_printed_and_the_import_is_cheap(settings: Registry, make_model: MakeModel) -> None:
    script = f"""
import sys
from pathlib import Path
from largeforge.recipe.schema import Registry
from largeforge.registry import Lineage, ModelRegistry
assert "mlflow" not in sys.modules and "sqlalchemy" not in sys.modules
registry = ModelRegistry(Registry(uri={settings.uri!r}, artifacts={settings.artifacts!r}))
folder = Path({str(make_model(1))!r})
registry.register("m", folder, kind="model", lineage=Lineage("r", "d", "l"), metrics={{}}, alias="a")
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_choice_in_conf_has_the_defaults_of_the_schema() -> None:
    choice = Path(__file__).parents[2] / "conf" / "registry" / "local.yaml"
    assert OmegaConf.load(choice) == Registry().model_dump()
