"""Find the `config.json` of the model that a job starts from, before anything is downloaded or trained.

In this order: the model's folder, the job or run that makes it, the architecture that the recipe states, the hub's
cache, LargeForge's library of models, the hub itself. No torch, no transformers, no weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.recipe import hub, model_ref, registered, sources
from largeforge.recipe.hub import NotFound

if TYPE_CHECKING:
    from largeforge.recipe.model_ref import ModelRef
    from largeforge.recipe.schema import Model, Recipe

_MOST_STEPS = 16
"""Longest way from model to model: a job that starts from a job that starts from an adapter …"""

_FORMATS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
_QUANTIZED = {"mxfp4": "mxfp4", "fp8": "fp8"}


@dataclass(frozen=True)
class ModelConfig:
    """The fields of a model's config.json, or why there are none."""

    fields: Mapping[str, Any] | None
    source: str = ""
    """Where they were found, for example `the recipe` or `the hub cache, commit 1a2b3c4d`."""
    problem: str = ""
    """Why there are none; empty when there are."""
    weights: str = "bf16"
    """Format that the weights are stored in: a key of `estimate.shape.BYTES_PER_PARAMETER`, or what the
    model's files call a format that is not among them."""


def config_of(model: Model | str, recipe: Recipe, *, online: bool = True) -> ModelConfig:
    """Return the config.json of a model of a recipe, or of a model reference.

    `online` allows to ask the hub for that one file, unless HF_HUB_OFFLINE forbids it. Never raises for
    what is missing or broken: `problem` says what.
    """
    try:
        return _Finder(recipe, online=online).find(model)
    except (NotFound, RuntimeError) as error:  # RuntimeError: a home that is not there, `~nobody/model`
        return ModelConfig(None, problem=str(error))


class _Finder:
    def __init__(self, recipe: Recipe, *, online: bool):
        self.recipe, self.online = recipe, online
        self.steps = 0

    def find(self, model: Model | str) -> ModelConfig:
        self._step()
        if not isinstance(model, str):
            return self._of_model(model)
        ref = model_ref.parse(model)
        if ref.scheme == "job":
            return self._of_job(ref)
        if ref.scheme == "hub":
            return self._of_hub(ref)
        if ref.scheme == "path":
            return self._of_folder(Path(ref.target).expanduser(), str(ref))
        if ref.scheme == "run":
            return self._of_folder(Path(ref.target).expanduser() / ref.selector / "out", str(ref))
        if ref.scheme == "registry":
            return self._of_folder(registered.folder(ref, self.recipe.registry), str(ref))
        raise NotFound(f"{model} has no architecture in the recipe")

    def _step(self) -> None:
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise NotFound("its models lead to each other without end")

    def _of_model(self, model: Model) -> ModelConfig:
        """Return the config.json of a section: its files where they are here, else the architecture that it states."""
        ref = model_ref.parse(model.ref)
        if model.architecture is None or ref.scheme in ("path", "run", "registry", "job") or _is_of_another(model, ref):
            try:
                found = self.find(model.ref)
                return replace(found, weights=model.weights) if model.weights else found
            except NotFound:
                if model.architecture is None or _is_of_another(model, ref):
                    raise
        vocabulary = model.tokenizer.vocab_size if ref.scheme == "tiny" and model.tokenizer else 0
        fields = model.architecture.config(vocab_size=vocabulary)
        return ModelConfig(fields, "the recipe", weights=model.weights or ("fp32" if ref.scheme == "tiny" else "bf16"))

    def _of_job(self, ref: ModelRef) -> ModelConfig:
        job = self.recipe.training_jobs.get(ref.target)
        if job is None:
            raise NotFound(f"there is no job '{ref.target}'")
        found = self.find(job.model)
        return replace(found, source=f"job {ref.target}: {found.source}")

    def _of_folder(self, folder: Path, name: str) -> ModelConfig:
        """Return the config.json of a folder; a LoRA adapter's is that of its base."""
        self._step()
        path = folder / "config.json"
        if path.is_file():
            fields = hub.read_config(path)
            return ModelConfig(fields, str(path), weights=stored_format(fields))
        adapter = folder / "adapter_config.json"
        if not adapter.is_file():
            raise NotFound(f"{name}: there is no config.json in {folder}")
        base = hub.read_config(adapter).get("base_model_name_or_path")
        if not isinstance(base, str) or not base:
            raise NotFound(f"{adapter} names no base model")
        if Path(base).is_dir():
            return self._of_folder(Path(base), base)
        try:
            return self.find(f"hub:{base}")
        except ValueError as error:
            raise NotFound(f"the base of {adapter} is not here: {base[:100]}") from error

    def _of_hub(self, ref: ModelRef) -> ModelConfig:
        reasons = []
        for look in (_cached, _in_library, self._asked):
            try:
                return look(ref)
            except NotFound as error:
                reasons.append(str(error))
        raise NotFound(f"{ref}: no config.json: {'; '.join(reasons)}")

    def _asked(self, ref: ModelRef) -> ModelConfig:
        if hub.offline() or not self.online:
            raise NotFound("the hub is not asked (offline)")
        fields, source = hub.fetched(ref)
        return ModelConfig(fields, source, weights=stored_format(fields))


def stored_format(config: Mapping[str, Any]) -> str:
    """Return the format of the weights that belong to a config.json, for example `bf16`, `mxfp4` or `awq`."""
    quantized = config.get("quantization_config")
    if isinstance(quantized, Mapping):
        method = str(quantized.get("quant_method", "quantized"))[:32]
        return _QUANTIZED.get(method, method)
    text = config.get("text_config")
    dtype = config.get("dtype") or config.get("torch_dtype")
    if dtype is None and isinstance(text, Mapping):
        dtype = text.get("dtype") or text.get("torch_dtype")
    return _FORMATS.get(str(dtype).removeprefix("torch."), "bf16")


def _cached(ref: ModelRef) -> ModelConfig:
    fields, source = hub.cached(ref)
    return ModelConfig(fields, source, weights=stored_format(fields))


def _is_of_another(model: Model, ref: ModelRef) -> bool:
    """Whether the architecture came with a choice of the library and `ref` was then changed to another repository."""
    if ref.scheme != "hub" or model.name not in sources.choices("model"):
        return False
    chosen = library_model(sources.choices("model")[model.name])
    if chosen is None or chosen.architecture != model.architecture:
        return False
    return model_ref.parse(chosen.ref).target != ref.target


def library_model(path: Path) -> Model | None:
    """Return the model of a choice, or None when the file is no sound choice."""
    import yaml

    from largeforge.recipe.schema import Model
    from largeforge.recipe.vetting import vet

    vetted = vet(path)
    try:
        return None if vetted.problems else Model.model_validate(yaml.safe_load(vetted.text))
    except ValueError:
        return None


def _in_library(ref: ModelRef) -> ModelConfig:
    """Return the architecture of the choice of `conf/model/` that has this repository, whatever the revision.

    Raises NotFound when there is none.
    """
    for name, path in sources.choices("model").items():
        if f"hub:{ref.target}" not in path.read_text(encoding="utf-8", errors="replace"):
            continue
        model = library_model(path)
        if model is not None and model_ref.parse(model.ref).target == ref.target and model.architecture is not None:
            return ModelConfig(model.architecture.config(), f"conf/model/{name}.yaml", weights=model.weights or "bf16")
    raise NotFound("no choice of conf/model/ describes it")
