"""On a CPU the same lock gives the same weights, from nothing but the registry and the data."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from tests.e2e.test_training import SMALL, rows
from tests.e2e.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

QUICK = SMALL.replace("max_steps: 60", "max_steps: 20").replace('"< -1"', '"< 0"') + "register_as: small\n"


def weights(workspace: Workspace, recipe: str, stage: str) -> str:
    return str(workspace.manifest(recipe, stage)["files"]["model.safetensors"]["sha256"])


def test_a_registered_model_is_made_again_bit_by_bit_with_only_the_registry(tmp_path: Path) -> None:
    here, there = Workspace(tmp_path / "here"), Workspace(tmp_path / "there")
    here.write("recipes/small.yaml", QUICK)
    here.write("words.jsonl", rows())
    made = here.run("+recipe=small")
    assert made.returncode == 0, made.stdout + made.stderr
    first = weights(here, "small", "train")
    lock = json.loads((here.run_dir("small") / "lock.json").read_text())
    assert lock["resolved"]["stages"]["train"]["tokenizer"] == lock["resolved"]["stages"]["init"]["tokenizer"]

    (here.path / "registry").rename(tmp_path / "registry")
    shutil.rmtree(here.path)
    data = there.write("elsewhere.jsonl", rows())
    registry = [
        f"registry.uri=sqlite:///{tmp_path}/registry/mlflow.db",
        f"registry.artifacts={tmp_path}/registry/artifacts",
    ]
    target = "reproduce=registry:small@champion"

    missing = there.run(target, *registry, "mode=plan")
    assert missing.returncode == 2, missing.stdout
    assert "the data is not here" in missing.stderr
    again = there.run(target, *registry, f"dataset.path={data.name}")
    assert again.returncode == 0, again.stdout + again.stderr
    assert weights(there, "reproduced/small", "train") == first
    assert "Reproduced: the weights of train are equal byte for byte, metrics are equal." in " ".join(
        again.stdout.split()
    )
    assert not (there.run_dir("reproduced/small") / "register").exists()

    data.write_text(rows(150))
    changed = there.run(target, *registry, f"dataset.path={data.name}")
    assert changed.returncode == 2
    assert "holds other data than the locked run had" in changed.stderr
