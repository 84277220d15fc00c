"""A real MLflow server that passes the files through itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from largeforge.errors import RegistryError
from largeforge.recipe import model_ref
from largeforge.recipe.schema import Registry
from largeforge.registry import Lineage, ModelRegistry
from tests.registry.servers import mlflow_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Start a server; give its URL and the folder that it keeps files in."""
    home = tmp_path_factory.mktemp("server")
    with mlflow_server(home, f"sqlite:///{home}/mlflow.db", str(home / "files")) as url:
        yield url, home / "files"


def test_register_and_resolve_through_a_server(
    server: tuple[str, Path], tmp_path: Path, make_model: Callable[..., Path]
) -> None:
    url, _ = server
    here = ModelRegistry(Registry(uri=url, artifacts=str(tmp_path / "here")))
    there = ModelRegistry(Registry(uri=url, artifacts=str(tmp_path / "there")))
    lineage = Lineage("quickstart", "d", "l", parents=["hub:x"])
    for number in (1, 2, 1):
        here.register("m", make_model(number), kind="adapter", lineage=lineage, metrics={"a": 0.5}, alias="champion")
    found = there.resolve(model_ref.parse("registry:m"))
    assert (found.version, found.kind, found.lineage, found.metrics) == (1, "adapter", lineage, {"a": 0.5})
    assert tmp_path / "there" in found.path.parents
    assert (found.path / "model.safetensors").read_bytes() == (make_model(1) / "model.safetensors").read_bytes()
    assert (found.path / "tokenizer" / "vocab.json").is_file()
    assert there.list_models()[0].aliases == {"champion": 1, "previous": 2}
    assert len(there.versions("m")) == 2


def test_damage_on_the_server_and_in_the_copy(
    server: tuple[str, Path], tmp_path: Path, make_model: Callable[..., Path]
) -> None:
    url, files = server
    lineage = Lineage("quickstart", "d", "l")
    registry = ModelRegistry(Registry(uri=url, artifacts=str(tmp_path / "here")))
    made = registry.register("frail", make_model(9), kind="model", lineage=lineage, metrics={}, alias="champion")
    (made.path / "model.safetensors").write_bytes(b"broken copy")
    fetched = registry.resolve(model_ref.parse("registry:frail"))
    assert (fetched.path / "model.safetensors").read_bytes() == (make_model(9) / "model.safetensors").read_bytes()
    (stored,) = files.rglob(f"{made.run_id}/artifacts/model/model.safetensors")
    stored.write_bytes(b"broken at the source")
    elsewhere = ModelRegistry(Registry(uri=url, artifacts=str(tmp_path / "there")))
    with pytest.raises(RegistryError, match=r"registry:frail/1 is damaged: .*model\.safetensors has 20 bytes"):
        elsewhere.resolve(model_ref.parse("registry:frail"))
    assert not list((tmp_path / "there").glob(".incoming-*"))


def test_several_at_once_through_a_server(
    server: tuple[str, Path], tmp_path: Path, make_model: Callable[..., Path]
) -> None:
    url, _ = server
    folders = [make_model(100 + number) for number in range(4)]

    def register(folder: Path) -> int:
        registry = ModelRegistry(Registry(uri=url, artifacts=str(tmp_path / "cache")))
        lineage = Lineage("quickstart", "d", "l")
        return registry.register("busy", folder, kind="model", lineage=lineage, metrics={"a": 1.0}, alias="x").version

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(register, folders)) == [1, 2, 3, 4]
