"""What a plan still needs from the machine: models, folders, disk space, memory. Pure but for looking into folders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from largeforge.errors import DataError
from largeforge.files import content
from largeforge.recipe import data_paths, model_ref

if TYPE_CHECKING:
    from largeforge.estimate.shape import Shape
    from largeforge.plan import Stage
    from largeforge.preflight.context import Context
    from largeforge.recipe.model_ref import ModelRef
    from largeforge.recipe.schema import Job, Method, Model

_ADAPTER_BYTES = 4
"""peft keeps the weights of an adapter in fp32 (`autocast_adapter_dtype`)."""
_OPTIMIZER_STATES = 2
"""AdamW has two values for each weight that is trained, in the type of the weight (Loshchilov & Hutter, 1711.05101)."""


@dataclass(frozen=True)
class Written:
    """Something that is going to be written below a folder."""

    folder: Path
    size_bytes: float
    what: str


def nearest_existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(above for above in (folder, *folder.parents) if above.exists())


def references(context: Context) -> list[ModelRef]:
    """Return the model references that pending stages read, each once."""
    texts: list[str] = []
    for stage in context.pending:
        texts += [stage.config["reference"]] if stage.config.get("reference") else []
        texts += stage.models
        if stage.kind == "serve":
            texts += _served(context)
    return [model_ref.parse(text) for text in dict.fromkeys(texts)]


def hub_models(context: Context) -> list[ModelRef]:
    """Return the models of the hub that pending stages read."""
    return [ref for ref in references(context) if ref.scheme == "hub"]


def missing_hub_models(context: Context) -> list[ModelRef]:
    """Return those that are not wholly in the cache of downloads."""
    return [ref for ref in hub_models(context) if not _cached(context.hub_cache, ref)]


def uses_registry(context: Context) -> bool:
    """Whether a pending stage reads or writes the registry."""
    registers = any(stage.kind == "register" for stage in context.pending)
    return registers or any(ref.scheme == "registry" for ref in references(context))


def registry_folders(context: Context) -> list[Path]:
    """Return the folders of this machine that the registry writes to."""
    if context.recipe is None or not any(stage.kind == "register" for stage in context.pending):
        return []
    settings, found = context.recipe.registry, []
    if settings.uri.startswith("sqlite:///"):
        found.append(Path(settings.uri.removeprefix("sqlite:///")).absolute().parent)
    if (artifacts := _artifacts(settings.artifacts)) is not None:
        found.append(artifacts)
    return list(dict.fromkeys(found))


def peak(context: Context) -> tuple[float, str]:
    """Return the bytes that the largest pending stage needs at once, and its name; (0, "") when it is not known.

    On GPUs it is the need of one GPU; servers on a CPU share its memory.
    """
    sizes = []
    for stage in context.computing:
        needed = [forecast.memory.total for forecast in context.forecasts(stage) if forecast.memory]
        sizes.append((max(needed, default=0.0) if context.wants_gpu else sum(needed), stage.name))
    size, name = max(sizes, default=(0.0, ""))
    return (size, name) if size else (0.0, "")


def serving_share(context: Context) -> float:
    """Return the share of a GPU's memory that vLLM takes at its start; 0 when nothing is served on one."""
    if context.recipe is None or not (context.starts_vllm and context.wants_gpu):
        return 0.0
    return context.recipe.serving.gpu_memory_utilization


def written(context: Context) -> Iterator[Written]:
    """Yield what pending stages write and downloads need, as far as the sizes of models are known."""
    for stage in context.pending:
        size = sum(forecast.disk_bytes for forecast in context.forecasts(stage))
        size = size or _own_estimate(context, stage)
        if stage.kind == "register" and context.recipe:
            artifacts = _artifacts(context.recipe.registry.artifacts)
            if artifacts is not None:
                yield Written(artifacts, size, stage.name)
        elif size:
            yield Written(context.runs_root, size, stage.name)
    for ref in missing_hub_models(context):
        size = _stored_bytes(context, _model_of(context, ref) or str(ref))
        if size:
            yield Written(context.hub_cache, size, f"download of {ref.target}")


def training_bytes(job: Job, model: Shape, *, device: str) -> float:
    """Return what a training has on disk at most: its checkpoints, one more while it is saved, and the result."""
    precision = {"auto": "fp32" if device == "cpu" else "bf16"}.get(job.method.precision, job.method.precision)
    trained, each = float(model.parameters), 4 if precision == "fp32" else 2
    rank = getattr(job.adapter, "lora_r", 0)
    if rank:
        names = getattr(job.adapter, "lora_target_modules", "all-linear")
        layers = [layer for layer in model.linears if names == "all-linear" or layer.name in names]
        trained, each = (
            float(sum(rank * (layer.inputs + layer.outputs) * layer.count for layer in layers)),
            _ADAPTER_BYTES,
        )
    saved = trained * each
    return saved + _checkpoints(job.method) * saved * (1 + _OPTIMIZER_STATES)


def _checkpoints(method: Method) -> int:
    """Return how many checkpoints there are at once at most: those that are kept, the best one, one that is written."""
    best = method.load_best_model_at_end
    most = method.save_total_limit + best + 1
    if method.max_steps <= 0:
        return most
    saved = -(-method.max_steps // method.save_steps)
    evaluated = -(-method.max_steps // method.eval_steps) if best and method.eval_steps else 0
    return min(most, saved + evaluated)


def _own_estimate(context: Context, stage: Stage) -> float:
    """Return the bytes of one stage's files where the plan has no forecast; 0 when the model's shape is not known."""
    if context.plan is None or not stage.job:
        return 0.0
    job, jobs = context.plan.recipe.training_jobs[stage.job], context.plan.recipe.training_jobs
    if stage.kind == "prepare":
        return _data_bytes(stage.config["dataset"])
    origin = job
    while (ref := model_ref.parse(origin.model.ref)).scheme == "job":
        origin = jobs[ref.target]
    model = context.models.of(origin.model).shape if context.models else None
    if model is None:
        return 0.0
    if stage.kind == "train":
        return training_bytes(job, model, device=context.plan.machine.device)
    whole = job.merge or job.adapter.name == "none"
    if stage.kind == "merge" or (stage.kind == "register" and whole):
        return model.parameters * 4.0 if ref.scheme == "tiny" else _stored_bytes(context, origin.model)
    if stage.kind == "register":
        return training_bytes(job, model, device=context.plan.machine.device) / 4
    return model.parameters * 4.0 if stage.kind == "init" else 0.0


def _data_bytes(dataset: dict[str, Any]) -> float:
    """Return the bytes of the rows to prepare; those of a mixture are there twice for a while."""
    size = 0
    for path in data_paths.named(dataset).values():
        with suppress(DataError, OSError):
            size += content.size_bytes(path)
    return size * (2.0 if dataset["mix"] else 1.0)


def _served(context: Context) -> list[str]:
    recipe = context.recipe
    experts = recipe.topology.experts.values() if recipe and recipe.topology else ()
    texts = [expert.model if ":" in expert.model else recipe.models[expert.model].ref for expert in experts if recipe]
    return [text for text in texts if not text.startswith("job:")]


def _model_of(context: Context, ref: ModelRef) -> Model | None:
    recipe = context.recipe
    models = [*recipe.models.values(), *(job.model for job in recipe.training_jobs.values())] if recipe else []
    return next((model for model in models if model_ref.parse(model.ref) == ref), None)


def _stored_bytes(context: Context, model: Model | str) -> float:
    """Return the size of a model's published weights; 0 when its shape is not known."""
    known = context.models.of(model) if context.models else None
    return known.shape.stored_bytes(known.weights) if known and known.shape else 0.0


def _artifacts(text: str) -> Path | None:
    """Return the registry's folder for files, or None when a server keeps them."""
    if text.startswith("file://"):
        return Path(unquote(text.removeprefix("file://")))
    return None if "://" in text else Path(text).expanduser().absolute()


def _cached(cache: Path, ref: ModelRef) -> bool:
    """Whether all weights of a model are in the hub's cache (layout: huggingface_hub, `try_to_load_from_cache`)."""
    folder = cache / f"models--{ref.target.replace('/', '--')}"
    revision = ref.selector or "main"
    try:
        commit = (folder / "refs" / revision).read_text(encoding="utf-8").strip()
    except OSError:
        commit = revision
    snapshot = folder / "snapshots" / commit
    try:
        index = json.loads((snapshot / "model.safetensors.index.json").read_text(encoding="utf-8"))
        names = set(index["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError):
        return any(snapshot.glob("*config.json")) and any(snapshot.glob("*.safetensors"))
    return all((snapshot / str(name)).is_file() for name in names)
