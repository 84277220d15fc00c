"""Decide which servers a topology needs: an expert and its adapters share one. Starts nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from largeforge.errors import ServingError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class ServedExpert:
    """An expert whose files are known."""

    name: str
    location: str
    """Absolute folder, or the name of a hub repository."""
    reference: str
    """Where the files came from, as answers name it."""
    revision: str = ""
    """Revision of a hub repository."""
    replicas: int = 1
    """Servers that answer for it."""
    adapter_on: str = ""
    """The expert whose server carries this one as a LoRA adapter."""
    lock: str = ""
    """Digest of the lock of the run that made it."""
    chat_template: str | None = None
    """Text of the chat template that it was trained with; empty when it has none, None when that is not known."""
    template_is_given: bool = False
    """Whether the recipe gives the template, so that it is not with the files."""
    task: Literal["generate", "embed", "score"] = "generate"
    """What it does; what does not generate has a server of its own."""

    @property
    def is_local(self) -> bool:
        """Whether the files are on this machine."""
        return Path(self.location).is_absolute()

    @property
    def is_adapter(self) -> bool:
        """Whether the files are known to be a LoRA adapter rather than a whole model."""
        return self.is_local and (Path(self.location) / "adapter_config.json").is_file()


@dataclass(frozen=True)
class Placement:
    """One vLLM server: a model, and the adapters that it carries."""

    base: ServedExpert
    adapters: tuple[ServedExpert, ...] = ()
    replica: int = 1
    """Which of the servers that answer for the same it is, from 1."""

    @property
    def experts(self) -> tuple[ServedExpert, ...]:
        """All experts that this server answers for."""
        return (self.base, *self.adapters)

    @property
    def title(self) -> str:
        """Name for people."""
        which = f" (replica {self.replica})" if self.base.replicas > 1 else ""
        return f"vLLM for {', '.join(expert.name for expert in self.experts)}{which}"

    @property
    def label(self) -> str:
        """Name in files."""
        return self.base.name if self.replica == 1 else f"{self.base.name}-{self.replica}"


def place(experts: Sequence[ServedExpert]) -> list[Placement]:
    """Return one placement for each replica of each expert that has a server of its own.

    Raises ServingError with every expert whose files do not fit what the topology says.
    """
    if faults := [fault for expert in experts if (fault := _fault(expert, experts))]:
        raise ServingError("\n".join(faults))
    return [
        Placement(base, tuple(expert for expert in experts if expert.adapter_on == base.name), replica)
        for base in experts
        if not base.adapter_on
        for replica in range(1, base.replicas + 1)
    ]


def adapter_rank(adapters: Sequence[ServedExpert]) -> int:
    """Return the largest rank among the adapters, 0 when one is not on this machine to look at."""
    return max((_rank(adapter) for adapter in adapters), default=0) if all(a.is_local for a in adapters) else 0


def threads_each(cores: int, *, num_servers: int) -> int:
    """Share the cores among the servers; one stays for their HTTP sides and the gateway, as in vLLM's own rule."""
    return max(1, (cores - 1) // num_servers)


def _fault(expert: ServedExpert, experts: Sequence[ServedExpert]) -> str:
    key = f"topology.experts.{expert.name}"
    if expert.adapter_on and expert.replicas > 1:
        return f"{key}.replicas = {expert.replicas}: it has as many as {expert.adapter_on}, whose servers carry it."
    if expert.adapter_on:
        base = next((other for other in experts if other.name == expert.adapter_on), None)
        if base is None or base.adapter_on:
            return f"{key}.adapter_on = {expert.adapter_on}: not an expert with a server of its own."
        if expert.is_local and not expert.is_adapter:
            return f"{key}: {expert.location} is a whole model; leave adapter_on out to give it a server of its own."
    elif expert.is_adapter:
        model = json.loads((Path(expert.location) / "adapter_config.json").read_text(encoding="utf-8"))
        base_name = model.get("base_model_name_or_path") or "its base"
        return (
            f"{key}: {expert.location} is a LoRA adapter of {base_name}; set adapter_on to the expert that serves "
            "that base, or serve the merged model."
        )
    return ""


def _rank(adapter: ServedExpert) -> int:
    path = Path(adapter.location) / "adapter_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return max(int(config["r"]), *map(int, config.get("rank_pattern", {}).values()), 0)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ServingError(f"{path} does not give the adapter's rank `r`: {error}") from error
