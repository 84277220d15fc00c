"""Experts whose files satisfy every check, and a recipe's sections around the fake vLLM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from largeforge.gateway.routers import keyword
from largeforge.recipe.schema import Gateway, Serving, Topology
from largeforge.serving.deployment import Deployment
from largeforge.serving.placement import ServedExpert

if TYPE_CHECKING:
    from collections.abc import Callable

FAKE = str(Path(__file__).parent / "fake_vllm.py")


@pytest.fixture
def expert(tmp_path: Path) -> Callable[..., ServedExpert]:
    """Make the files of an expert; `behaviour` is the fake's."""

    def make(name: str, behaviour: str = "model", *, adapter_on: str = "", rank: int = 8) -> ServedExpert:
        folder = tmp_path / name / behaviour
        folder.mkdir(parents=True)
        config = folder / ("adapter_config.json" if adapter_on else "config.json")
        config.write_text(json.dumps({"r": rank, "base_model_name_or_path": "base"} if adapter_on else {}))
        (folder / "model.safetensors").touch()
        return ServedExpert(name, str(folder), f"path:{folder}", adapter_on=adapter_on, lock="l0")

    return make


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def deploy(tmp_path: Path, notes: list[str]) -> Callable[..., Deployment]:
    """Make a deployment of experts, the first being the fallback."""

    def make(*experts: ServedExpert, port: int = 0, **serving: Any) -> Deployment:
        sections = {e.name: {"model": e.reference, "adapter_on": e.adapter_on, "keywords": [e.name]} for e in experts}
        return Deployment(
            experts,
            topology=Topology.model_validate({"experts": sections, "fallback": experts[0].name}),
            router=keyword.Config(),
            serving=Serving(**{"python": FAKE, "startup_timeout_s": 60, **serving}),
            gateway=Gateway(port=port),
            device="cpu",
            logs=tmp_path / "logs",
            report=notes.append,
        )

    return make
