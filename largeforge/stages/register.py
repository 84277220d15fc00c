"""Enter a trained model in the registry, with where it came from and how it was judged."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel

from largeforge.artifacts import file_sha256, read_manifest, write_json
from largeforge.card import Gate, card
from largeforge.errors import GateError, StageError
from largeforge.identity import parts
from largeforge.recipe import model_ref
from largeforge.recipe.base import Strict
from largeforge.recipe.lock import read as read_lock
from largeforge.recipe.schema import Registry
from largeforge.registry import GateResult, Lineage, ModelRegistry
from largeforge.stages import model_card
from largeforge.stages.context import Result
from largeforge.stages.models import checked_folder

if TYPE_CHECKING:
    from pathlib import Path

    from largeforge.artifacts import Manifest
    from largeforge.registry.copying import Watch
    from largeforge.stages.context import Context

_Model = TypeVar("_Model", bound=BaseModel)

EVALUATION, PARITY = "evaluation.json", "parity.json"
REGISTERED = "registered.json"
MIB = 2**20
TELL_EVERY_S = 1.0
TOLD_FROM_BYTES = 256 * MIB
"""Smaller models are copied in an instant."""


class Config(Strict):
    """What to register, where, and from what it was made."""

    name: str
    """Name in the model registry (`register_as`)."""
    alias: str
    """Alias that points to the new version."""
    registry: Registry
    recipe: str
    """Name of the recipe."""
    recipe_digest: str = ""
    """Digest of the resolved recipe."""
    parent: str = ""
    """Reference of the model that training started from; empty for random weights."""


class _Gate(BaseModel):
    metric: str
    condition: str
    value: float | None
    passed: bool
    note: str = ""


class _Evaluation(BaseModel):
    """The part of evaluation.json that the registry keeps."""

    metrics: dict[str, float] = {}
    gates: list[_Gate] = []


class _Registered(BaseModel):
    """The part of a parent's registered.json that names it."""

    reference: str


def run(config: Config, context: Context) -> Result:
    """Register the model unless a gate refused it.

    Raises GateError, ModelError when the files are no model, RegistryError.
    """
    evaluation = _evaluation(context)
    model = checked_folder(context.inputs["model"])
    kind: Literal["model", "adapter"] = "adapter" if (model / "adapter_config.json").is_file() else "model"
    made = read_manifest(context.inputs["model"].parent)
    told = model_card.facts(
        context,
        results=made.metrics if made else {},
        metrics=evaluation.metrics,
        gates=[Gate(gate.metric, gate.condition, gate.value, gate.passed) for gate in evaluation.gates],
        merged=made is not None and made.kind == "merge",
        registered=f"{config.name}@{config.alias}",
    )
    version = ModelRegistry(config.registry, watch=_teller(context)).register(
        config.name,
        model,
        kind=kind,
        lineage=_lineage(config, context, evaluation.gates),
        metrics=evaluation.metrics,
        alias=config.alias,
        lock=_lock(context),
        card=card(told),
    )
    info = {
        "name": version.name,
        "version": version.version,
        "reference": version.reference,
        "alias": config.alias,
        "path": str(version.path),
    }
    write_json(context.out / REGISTERED, info)
    context.events.emit("note", text=f"registered {version.reference} as @{config.alias}")
    return Result(info=info)


def _teller(context: Context) -> Watch:
    """Return what tells how far copying has come, about once a second and at its end."""
    told_at = 0.0

    def tell(text: str, done: int, total: int) -> None:
        nonlocal told_at
        now = time.monotonic()
        if total < TOLD_FROM_BYTES or (done < total and now - told_at < TELL_EVERY_S):
            return
        told_at = now
        context.events.emit("progress", step=done // MIB, total=total // MIB, unit="MiB copied")

    return tell


def _evaluation(context: Context) -> _Evaluation:
    """Read the verdict; an evaluation that cannot be read is not taken for a good one."""
    evaluation, path = _Evaluation(), context.out
    if "evaluation" in context.inputs:
        path = context.inputs["evaluation"] / EVALUATION
        evaluation = _read(path, _Evaluation)
    if "parity" in context.inputs:
        served = _read(context.inputs["parity"] / PARITY, _Evaluation)
        metrics = {**evaluation.metrics, **served.metrics}
        evaluation = _Evaluation(metrics=metrics, gates=[*evaluation.gates, *served.gates])
    refused = [gate for gate in evaluation.gates if not gate.passed]
    if refused:
        told = "; ".join(f"{gate.metric} is {gate.value}, must be {gate.condition}" for gate in refused)
        raise GateError(f"not registered, since a gate refused the model: {told} ({path})")
    return evaluation


def _lock(context: Context) -> dict[str, Any]:
    """Return the lock of the run, with what was resolved so far; empty for a run directory without one."""
    path = context.out.parents[1] / "lock.json"
    return read_lock(path) if path.is_file() else {}


def _lineage(config: Config, context: Context, gates: list[_Gate]) -> Lineage:
    manifest = read_manifest(context.inputs["model"].parent)
    rows = sorted(context.inputs["data"].glob("*.jsonl")) if "data" in context.inputs else []
    return Lineage(
        recipe=config.recipe,
        recipe_digest=config.recipe_digest,
        lock=context.lock,
        data_sha256={path.name: file_sha256(path) for path in rows},
        parents=_parents(config, context, manifest),
        run_dir=str(context.out.parents[1]),
        stage=manifest.stage if manifest else context.stage,
        fingerprint=manifest.fingerprint if manifest else "",
        chat_template=parts(context.inputs["model"]).get("chat_template", ""),
        gates=[GateResult(gate.metric, gate.condition, gate.value, gate.passed, gate.note) for gate in gates],
    )


def _parents(config: Config, context: Context, manifest: Manifest | None) -> list[str]:
    """Return references that keep their meaning: versions instead of aliases and job names where they exist."""
    if "parent" in context.inputs:
        return [_read(context.inputs["parent"] / REGISTERED, _Registered).reference]
    base = str(manifest.info.get("base", "")) if manifest else ""
    return [_as_used(config.parent, base)] if config.parent else []


def _as_used(reference: str, base: str) -> str:
    """Replace a registry alias by the version that the training says it started from."""
    ref = model_ref.parse(reference)
    if ref.scheme == "registry" and not ref.is_version and base.startswith(f"registry:{ref.target}/"):
        return base
    return reference


def _read(path: Path, model: type[_Model]) -> _Model:
    try:
        return model.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise StageError(f"{path} cannot be read: {error}") from error
