"""Turn a model reference into files: the one place that knows where each scheme looks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.errors import ModelError
from largeforge.identity import of_hub, parts
from largeforge.recipe import model_ref

if TYPE_CHECKING:
    from collections.abc import Mapping

    from largeforge.recipe.schema import Registry


@dataclass(frozen=True)
class ResolvedModel:
    """Files of a model (or the name of a hub repository) and where they came from."""

    location: str
    """Folder, or a hub repository name."""
    reference: str
    """The reference with aliases replaced by versions: what served answers carry."""
    revision: str = ""
    """Revision of a hub repository."""
    lock: str = ""
    """Digest of the lock of the run that made it; empty when it was not made here."""

    @property
    def is_adapter(self) -> bool:
        """Whether the files are a LoRA adapter rather than a whole model."""
        return (Path(self.location) / "adapter_config.json").is_file()

    def identity(self) -> dict[str, str]:
        """Return what the lock says of the model that was used: reference, hub commit, tokenizer, chat template."""
        if not self.reference.startswith("hub:"):
            return {"model": self.reference, **parts(Path(self.location))}
        return {"model": self.reference, **of_hub(model_ref.parse(self.reference))}


def resolve(reference: str, *, registry: Registry, inputs: Mapping[str, Path], lock: str = "") -> ResolvedModel:
    """Find the files that `reference` names.

    `inputs` maps `job:` targets (`general`, `mapper/merge`) to folders of this run.
    Raises ModelError when there is nothing, RegistryError when a registered model is missing.
    """
    ref = model_ref.parse(reference)
    if ref.scheme == "hub":
        return ResolvedModel(ref.target, str(ref), revision=ref.selector)
    if ref.scheme == "path":
        return ResolvedModel(str(checked_folder(Path(ref.target).expanduser())), str(ref))
    if ref.scheme == "job":
        return ResolvedModel(str(checked_folder(inputs[str(ref)])), str(ref), lock=lock)
    if ref.scheme == "run":
        return _from_run(ref)
    if ref.scheme == "registry":
        from largeforge.registry import ModelRegistry

        version = ModelRegistry(registry).resolve(ref)
        return ResolvedModel(str(checked_folder(version.path)), version.reference, lock=version.lock)
    raise ModelError(f"{reference} has no files until a job makes them")


def checked_folder(folder: Path) -> Path:
    """Return `folder` if it holds a loadable model or adapter.

    Raises ModelError that names the missing or broken file.
    """
    if not folder.is_dir():
        raise ModelError(f"model folder {folder} does not exist")
    configs = [folder / name for name in ("config.json", "adapter_config.json") if (folder / name).is_file()]
    if not configs:
        raise ModelError(f"model folder {folder} has neither config.json nor adapter_config.json")
    for config in configs:
        try:
            json.loads(config.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(f"{config} cannot be read: {error}") from error
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"model folder {folder} has no *.safetensors weights")
    return folder


def _from_run(ref: model_ref.ModelRef) -> ResolvedModel:
    stage = Path(ref.target) / ref.selector
    manifest = stage / "manifest.json"
    if not manifest.is_file():
        raise ModelError(f"{ref}: no finished stage at {stage}; look into {ref.target} for stage names")
    lock = json.loads(manifest.read_text(encoding="utf-8")).get("lock", "")
    return ResolvedModel(str(checked_folder(stage / "out")), str(ref), lock=lock)
