"""Models pushed to and pulled from a hub by the command line, with the real client of the Hugging Face Hub."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.recipe.schema import Registry
from largeforge.registry import Lineage, ModelRegistry
from tests.e2e.hub_server import TOKEN, Hub, model_hub

if TYPE_CHECKING:
    from tests.e2e.workspace import Workspace

SAY = """
import contextlib, io, json, sys
from largeforge.cli import main
told = []
for words in json.loads(sys.argv[1]):
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        code = main(["models", *words])
    told.append([code, text.getvalue()])
print(json.dumps(told))
"""
"""Several commands in one process: the client of the hub takes a second to import."""


def say(workspace: Workspace, hub: Hub, *commands: list[str]) -> list[tuple[int, str]]:
    environment = {
        **os.environ, "HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(workspace.path / "hf"), "PYTHONPATH": str(Path(__file__).parents[2]),
    }  # fmt: skip
    ended = subprocess.run(
        [sys.executable, "-c", SAY, json.dumps(commands)],
        cwd=workspace.path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert TOKEN not in ended.stdout + ended.stderr
    return [(code, text) for code, text in json.loads(ended.stdout.splitlines()[-1])]


def test_a_version_goes_to_the_hub_and_comes_back_verified(workspace: Workspace) -> None:
    home = workspace.path / "registry"
    registry = ModelRegistry(Registry(uri=f"sqlite:///{home}/mlflow.db", artifacts=str(home / "artifacts")))
    folder = workspace.path / "model"
    folder.mkdir()
    weights = random.Random(1).randbytes(5000)
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    (folder / "model.safetensors").write_bytes(weights)
    lineage = Lineage("quickstart", "d", "l")
    made = registry.register("m", folder, kind="model", lineage=lineage, metrics={}, alias="champion", card="# m")
    with model_hub() as hub:
        hub.commit("acme/m", {".gitattributes": b"x", "old-shard.safetensors": b"from another version"})
        code = {"config.json": b"{}", "model.safetensors": weights, "modeling.py": b"evil()", "pytorch_model.bin": b"x"}
        first = hub.commit("acme/theirs", code)
        hub.commit("acme/theirs", {**code, "model.safetensors": b"later"})
        hub.commit("acme/pickled", {"config.json": b"{}", "pytorch_model.bin": b"x"})
        told = say(
            workspace, hub,
            ["push", "m", "acme/m", "--why", "first release"],
            ["push", "m", "acme/new", "--private", "--revision", "v2"],
            ["pull", "acme/m", "--as", "ours", "--alias", "candidate", "--why", "try it"],
            ["pull", f"acme/theirs@{first}", "--as", "stranger"],
            ["pull", "acme/pickled", "--as", "no"],
            ["pull", "acme/nothing", "--as", "no"],
        )  # fmt: skip
        assert [code for code, _ in told] == [0, 0, 0, 0, 1, 1], told
        commit, files = hub.at("acme/m", "main")
        assert f"is at {hub.address}/acme/m, commit {commit}" in told[0][1]
        assert files["model.safetensors"] == weights
        assert set(files) == {".gitattributes", "README.md", "config.json", "largeforge.json", "model.safetensors"}
        assert "model.safetensors" in hub.at("acme/new", "v2")[1]
        assert set(hub.at("acme/new", "main")[1]) == {".gitattributes"}
        assert hub.messages == ["registry:m/1: first release", "registry:m/1"]
        assert "has no *.safetensors" in told[4][1]
        assert "acme/nothing" in told[5][1]
        hub.damages = hub.loses = True
        told = say(
            workspace, hub,
            ["pull", f"acme/theirs@{first}", "--as", "no"],
            ["push", "m", "acme/lossy"],
        )  # fmt: skip
        assert [code for code, _ in told] == [1, 1]
        assert "what came is not what the hub says, and is not used: model.safetensors" in told[0][1]
        assert "does not hold what was pushed: model.safetensors" in told[1][1]
    assert [model.name for model in registry.list_models()] == ["m", "ours", "stranger"]
    (pushed,) = registry.versions("m")
    assert pushed.tags["hub acme/m"] == commit
    assert [(each.action, each.detail) for each in registry.log("m")][1] == ("push", f"hub:acme/m@{commit}")
    (ours,) = registry.versions("ours")
    assert (ours.digest, ours.aliases) == (made.digest, ("candidate",))
    assert ours.lineage.parents == [f"hub:acme/m@{commit}"]
    assert [(each.action, each.why) for each in registry.log("ours")] == [("pull", "try it")]
    path = home / "artifacts" / registry.versions("stranger")[0].run_id / "artifacts" / "model"
    assert {each.name for each in path.iterdir()} == {"config.json", "model.safetensors", "largeforge.json"}
    assert (path / "model.safetensors").read_bytes() == weights, "the commit that was asked for, not the newest"
