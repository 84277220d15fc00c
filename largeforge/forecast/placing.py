"""What the servers of a topology need of a host, for placing them, and how changes of the recipe would alter that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.forecast import serving
from largeforge.forecast.fixes import changed
from largeforge.forecast.models import Models

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.forecast.stage import Forecast
    from largeforge.hardware import Machine
    from largeforge.recipe.schema import Recipe

MOST_ALTERNATIVES = 12


def needs(recipe: Recipe, machine: Machine) -> dict[str, dict[str, Any]]:
    """Return, by the expert whose model a server loads, what it needs on each of its GPUs or of a host's memory.

    `needed_bytes` is the least, with the KV cache of one longest sequence, `wanted_bytes` what the recipe would take;
    0 where the model is not known. `alternatives` are overrides with the same numbers, what costs the user least first.
    """
    models = Models(recipe)
    forecasts = serving.servers(recipe, machine, models)
    found = {}
    for name, forecast in _own(recipe, forecasts).items():
        others = list(_alternatives(recipe, machine, models, name, forecast)) if forecast.serving else []
        found[name] = {**_need(recipe, machine, forecast), "alternatives": others}
    return found


def _own(recipe: Recipe, forecasts: dict[str, Forecast]) -> dict[str, Forecast]:
    """Return the forecasts of servers without those of further replicas."""
    assert recipe.topology is not None
    return {name: forecasts[name] for name, expert in recipe.topology.experts.items() if not expert.adapter_on}


def _need(recipe: Recipe, machine: Machine, forecast: Forecast) -> dict[str, Any]:
    size = recipe.serving.tensor_parallel_size
    if forecast.serving is None or forecast.memory is None:
        return {"needed_bytes": 0, "wanted_bytes": 0, "tensor_parallel_size": size}
    room, total = forecast.serving.memory, forecast.memory.total
    if machine.device == "cpu":
        return {"needed_bytes": int(total), "wanted_bytes": int(total), "tensor_parallel_size": 1}
    one_sequence = room.cache.blocks(room.max_model_len) * room.cache.block_bytes
    needed = total - forecast.memory.parts.get("kv_cache", 0.0) + one_sequence
    return {
        "needed_bytes": int(needed), "wanted_bytes": int(max(needed, room.budget_bytes)), "tensor_parallel_size": size,
    }  # fmt: skip


def _alternatives(
    recipe: Recipe, machine: Machine, models: Models, name: str, forecast: Forecast
) -> Iterator[dict[str, Any]]:
    """Yield overrides that would make a server need something else."""
    changes = [change for kind in serving.candidates(recipe, machine, forecast) for change in kind]
    for change in changes[:MOST_ALTERNATIVES]:
        other = changed(recipe, change)
        if other is not None:
            forecasts = _own(other, serving.servers(other, machine, models))
            yield {"override": str(change), **_need(other, machine, forecasts[name])}
