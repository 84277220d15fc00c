"""The facts of a model's card, from the lock of its run and the manifests of its stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.artifacts import read_manifest
from largeforge.card import Data, Facts, Gate
from largeforge.errors import RecipeError
from largeforge.recipe import model_ref
from largeforge.recipe.lock import read as read_lock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from largeforge.stages.context import Context

CARD = "README.md"
_NOT_IN_MODEL = (
    "name", "logging_steps", "save_steps", "save_total_limit", "sample_steps", "num_samples", "sample_tokens",
)  # fmt: skip
"""Settings that leave no trace in the weights."""
_RESULTS = ("loss", "steps", "tokens")
"""What a training reports that is the same whenever it is made again."""


def facts(
    context: Context,
    *,
    results: Mapping[str, float] | None = None,
    metrics: Mapping[str, float] | None = None,
    gates: Iterable[Gate] = (),
    merged: bool = False,
    registered: str = "",
) -> Facts:
    """Return what is known of a job's model in one of its stages; of a run without a lock, next to nothing."""
    job = context.stage.rpartition(".")[0]
    lock = run_lock(context)
    recipe = lock.get("recipe") or {}
    own = ((recipe.get("jobs") or {}).get(job) if job else recipe) or {}
    dataset, hardware = own.get("dataset") or {}, lock.get("hardware") or {}
    paths = [path for path in (dataset.get("path"), dataset.get("heldout_path")) if path]
    origin, license_name = _origin(recipe, own.get("model") or {})
    return Facts(
        title=registered.partition("@")[0] or f"{recipe.get('name', 'model')}{f' {job}' if job else ''}",
        recipe=str(recipe.get("name", "")),
        description=str(recipe.get("description") or "").rstrip("."),
        base=str((own.get("model") or {}).get("ref", "")),
        origin=origin,
        license=license_name,
        method=str((own.get("method") or {}).get("name", "")),
        adapter=str((own.get("adapter") or {}).get("name", "none")),
        merged=merged,
        settings={key: value for part in ("method", "adapter") for key, value in _flat(own.get(part) or {}, part)},
        data=tuple(Data(path, (lock.get("datasets") or {}).get(path, "")) for path in paths),
        rows=_rows(context),
        results={name: value for name, value in (results or {}).items() if name in _RESULTS},
        metrics=dict(metrics or {}),
        gates=tuple(gates),
        lock=context.lock,
        seed=recipe.get("seed"),
        packages=lock.get("packages") or {},
        python=str(lock.get("python", "")),
        hardware=_machine(hardware),
        registered=registered,
    )


def run_lock(context: Context) -> dict[str, Any]:
    """Return the lock of the run, with what was resolved so far; empty for a run directory without one."""
    path = context.out.parents[1] / "lock.json"
    try:
        return read_lock(path) if path.is_file() else {}
    except RecipeError:
        return {}


def _origin(recipe: Mapping[str, Any], model: Mapping[str, Any]) -> tuple[str, str]:
    """Return the first model of the chain of jobs, and its licence."""
    jobs, seen = recipe.get("jobs") or {}, set()
    while (reference := str(model.get("ref", ""))).startswith("job:") and reference not in seen:
        seen.add(reference)
        model = (jobs.get(model_ref.parse(reference).target) or {}).get("model") or {}
    return reference, str(model.get("license") or "")


def _rows(context: Context) -> dict[str, int]:
    manifest = read_manifest(context.inputs["data"].parent) if "data" in context.inputs else None
    named = {"train": "train_rows", "held out": "heldout_rows"}
    found = manifest.metrics if manifest else {}
    return {name: int(found[key]) for name, key in named.items() if key in found}


def _machine(hardware: Mapping[str, Any]) -> str:
    if hardware.get("device") == "cuda":
        return f"{hardware.get('num_gpus', 1)} × {hardware.get('gpu', 'GPU')}"
    return f"{hardware.get('cores')} CPU cores" if hardware.get("cores") else ""


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}.{key}")
        elif key not in _NOT_IN_MODEL and value not in ("", None, []):
            yield f"{prefix}.{key}", value
