"""What checks are given: the plan, if there is one, the environment, and shared looks at GPUs and servers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge import runs
from largeforge.preflight import nvidia
from largeforge.recipe.host_checks import COMPUTED, training_hosts

if TYPE_CHECKING:
    from largeforge.forecast.models import Models
    from largeforge.forecast.stage import Forecast
    from largeforge.plan import Plan, Stage
    from largeforge.preflight.web import Web
    from largeforge.recipe.schema import Recipe

CLUSTERS = ("slurm", "ray")
"""Launchers whose trainings run where the cluster puts them."""
TIMEOUT_S = 3.0
"""How long a server may take to answer, and a check to look."""


@dataclass(frozen=True)
class Context:
    """One look at the machine; what several checks need is looked up once."""

    plan: Plan | None = None
    """None for the general checks alone."""
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    timeout_s: float = TIMEOUT_S

    @property
    def recipe(self) -> Recipe | None:
        """The recipe of the plan."""
        return self.plan.recipe if self.plan else None

    @cached_property
    def pending(self) -> tuple[Stage, ...]:
        """The stages that a run would still carry out."""
        if self.plan is None:
            return ()
        finished = runs.statuses(self.plan)
        return tuple(stage for stage in self.plan.stages if stage.name not in finished)

    @cached_property
    def here(self) -> tuple[Stage, ...]:
        """The stages that a run would still carry out on this machine."""
        elsewhere = COMPUTED if self.recipe and training_hosts(self.recipe) else ()
        return tuple(stage for stage in self.pending if stage.kind not in elsewhere)

    @cached_property
    def computing(self) -> tuple[Stage, ...]:
        """Those of them that need GPUs of this machine, or its memory: servers of a deployment are on other hosts, and
        what a cluster's queue starts is, too."""
        return tuple(
            stage
            for stage in self.here
            if stage.kind in (*COMPUTED, "serve") and (stage.launcher or {}).get("name") not in CLUSTERS
        )

    @cached_property
    def models(self) -> Models | None:
        """The shapes of the recipe's models; no server is asked for them."""
        from largeforge.forecast.models import Models

        return Models(self.recipe, online=False) if self.recipe else None

    @cached_property
    def web(self) -> Web:
        """Servers, each asked once."""
        from largeforge.preflight.web import Web

        return Web(self.environ, timeout_s=self.timeout_s)

    @cached_property
    def gpus(self) -> nvidia.Answer:
        """What the NVIDIA driver says."""
        return nvidia.ask(self.environ, timeout_s=self.timeout_s)

    @property
    def wants_gpu(self) -> bool:
        """Whether the plan runs on NVIDIA GPUs of this machine."""
        return self.plan is not None and self.plan.machine.device == "cuda" and bool(self.computing)

    @property
    def serves(self) -> bool:
        """Whether the plan still starts servers."""
        return any(stage.kind == "serve" for stage in self.pending)

    @property
    def starts_vllm(self) -> bool:
        """Whether a pending stage serves models with vLLM, to whomever."""
        return self.serves or any(
            stage.kind in ("parity", "quantize") or stage.config.get("judging", {}).get("engine") == "vllm"
            for stage in self.here
        )

    def forecasts(self, stage: Stage) -> list[Forecast]:
        """Return what the plan foresees for a stage; of a serving stage one for each server."""
        found = self.plan.forecasts if self.plan else {}
        return [forecast for name, forecast in found.items() if name.partition("/")[0] == stage.name]

    @property
    def runs_root(self) -> Path:
        """Folder of all runs."""
        return Path(self.recipe.runs.root if self.recipe else "runs").expanduser().absolute()

    @property
    def hub_cache(self) -> Path:
        """Folder of downloaded models, found as huggingface_hub does (its `constants.py`)."""
        given = self.environ.get("HF_HUB_CACHE") or self.environ.get("HUGGINGFACE_HUB_CACHE")
        if given:
            return Path(given).expanduser()
        caches = self.environ.get("XDG_CACHE_HOME") or "~/.cache"
        home = self.environ.get("HF_HOME") or f"{caches}/huggingface"
        return Path(home).expanduser() / "hub"
