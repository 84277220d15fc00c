"""A deployment on two hosts, as the parts of its stage see it; hosts are told of, not there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from largeforge.recipe import extensions
from largeforge.recipe.schema import (
    Autoscaling,
    Deploy,
    Gateway,
    Hosts,
    Monitoring,
    Rollout,
    Serving,
    Slo,
    Topology,
)
from largeforge.serving.placement import ServedExpert, place

GIB = 2**30


def gpu(index: int, gib: int = 24, *, free: int = -1) -> dict[str, Any]:
    """Return a GPU as a host tells of it."""
    memory = gib * GIB
    return {
        "index": index, "uuid": f"GPU-{index}", "name": "NVIDIA GeForce RTX 4090", "memory_bytes": memory,
        "free_bytes": memory if free < 0 else free * GIB, "compute_capability": "8.9",
    }  # fmt: skip


def look(*gpus: dict[str, Any], memory_gib: int = 64, **state: Any) -> dict[str, Any]:
    """Return what a host tells of itself: nothing is deployed there, unless `state` says so."""
    machine = {
        "gpus": list(gpus), "memory_bytes": memory_gib * GIB, "cores": 16, "python": "3.11.9", "links": [],
        "deployments": [],
    }  # fmt: skip
    nothing = {
        "account": {}, "paths": {}, "units": {}, "models": {}, "environments": {}, "credentials": {}, "salt": "",
        "taken_ports": [22], "others": [], "free_bytes": memory_gib * GIB, "incoming": [], "programs": [],
        "gpus": list(gpus),
    }  # fmt: skip
    return {"machine": machine, "state": {**nothing, **state}}


class Case:
    """The sections of a recipe with two experts, one an adapter on the other."""

    def __init__(self, folder: Path, *, device: str = "cuda", replicas: int = 1, **deploy: Any):
        for name, config in (("base", "config.json"), ("adapter", "adapter_config.json")):
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / config).write_text('{"r": 8}')
            (folder / name / "model.safetensors").write_text(name)
        base, adapter = str(folder / "base"), str(folder / "adapter")
        self.experts = [
            ServedExpert("general", base, "registry:general/3", replicas=replicas, lock="a" * 64),
            ServedExpert("support", adapter, "registry:support/7", adapter_on="general", lock="b" * 64),
        ]
        self.places = place(self.experts)
        topology = {
            "general": {"model": f"path:{base}", "replicas": replicas},
            "support": {"model": f"path:{adapter}", "adapter_on": "general"},
        }
        self.given = SimpleNamespace(
            topology=Topology.model_validate({"experts": topology}), router=extensions.load("router",
            "keyword").Config(), serving=Serving(max_model_len=4096), gateway=Gateway(host="0.0.0.0"),
            deploy=Deploy.model_validate(deploy), device=device, recipe="shop", needs={"general": {"needed_bytes": 8 *
            GIB, "wanted_bytes": 20 * GIB, "tensor_parallel_size": 1}}, hosts=Hosts.model_validate({
                "name": "lab", "common": {"python": "/opt/venv/bin/python"},
                "hosts": {
                    "front": {"address": "10.0.0.10", "roles": ["gateway"]},
                    "box": {"address": "10.0.0.11", "roles": ["serve"], "labels": {"rack": "a"}},
                    "other": {"address": "10.0.0.12", "roles": ["serve"], "labels": {"rack": "b"}},
                },
            }), monitoring=Monitoring(), slo=Slo(), price_usd=0.0,
            rollout=Rollout(strategy="immediate"), aliases={}, autoscaling=Autoscaling(),
        )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for models."""
    return tmp_path / "models"
