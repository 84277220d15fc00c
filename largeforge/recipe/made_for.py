"""What a model is made for by what its files say: to write or to score, and whether it is an adapter.

Only files that are here are read, without transformers: a folder, a run, a local registry, the hub's cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.recipe import hub, model_ref, registered

if TYPE_CHECKING:
    from largeforge.recipe.schema import Registry

CAUSAL_LM, SEQ_CLS = "CAUSAL_LM", "SEQ_CLS"
"""What a model is made for, in peft's words: to write, or to score."""

SCORES = "is a reward model, which scores and does not write"
IS_ADAPTER = "is an adapter, not a model; merge it where it was trained (merge: true) and start from the merged model"
NO_REWARD_MODEL = "is no reward model: it writes and does not score"
"""Rules that a plan and the process that loads a model tell in the same words."""


@dataclass(frozen=True)
class MadeFor:
    """What the files of a model say."""

    task_type: str
    is_adapter: bool

    @property
    def scores(self) -> bool:
        """Whether it scores answers."""
        return self.task_type == SEQ_CLS


def of_reference(reference: str, registry: Registry) -> MadeFor | None:
    """Return what the model of a reference is made for; None when its files are not here or cannot be read."""
    ref = model_ref.parse(reference)
    try:
        if ref.scheme == "path":
            return of_folder(Path(ref.target).expanduser())
        if ref.scheme == "run":
            return of_folder(Path(ref.target).expanduser() / ref.selector / "out")
        if ref.scheme == "registry":
            return of_folder(registered.folder(ref, registry))
        return of_folder(hub.snapshot(ref)) if ref.scheme == "hub" else None
    except (hub.NotFound, RuntimeError):  # a home that is not there, `~nobody/model`
        return None


def of_folder(folder: Path) -> MadeFor | None:
    """Return what the model in a folder is made for; None when it has no files that say so.

    Raises NotFound when they cannot be read.
    """
    adapter, config = folder / "adapter_config.json", folder / "config.json"
    if adapter.is_file():
        return MadeFor(str(hub.read_config(adapter).get("task_type") or CAUSAL_LM), is_adapter=True)
    return MadeFor(of_config(hub.read_config(config)), is_adapter=False) if config.is_file() else None


def of_config(fields: Mapping[str, Any]) -> str:
    """Return what a model with such a config.json is made for."""
    architectures = fields.get("architectures")
    first = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    return SEQ_CLS if first.endswith("ForSequenceClassification") else CAUSAL_LM
