"""The stage that serves a topology."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.plan import Stage
from largeforge.planning.job import stage_name
from largeforge.recipe import model_ref

if TYPE_CHECKING:
    from largeforge.hardware import Machine
    from largeforge.recipe.schema import Recipe


def serve(recipe: Recipe, found: Machine, before: list[Stage]) -> Stage:
    """Serve the experts of a topology, and ask what the recipe asks."""
    assert recipe.topology is not None and recipe.router is not None
    inputs: dict[str, str] = {}
    registered = {job.register_as: name for name, job in recipe.training_jobs.items() if job.register_as}
    after = [stage.name for stage in before if stage.kind in ("gate", "merge", "quantize", "parity", "register")]
    for expert in recipe.topology.experts.values():
        text = expert.model if ":" in expert.model else recipe.models[expert.model].ref
        ref = model_ref.parse(text)
        if ref.scheme == "job":
            inputs[text] = stage_name(recipe, ref.target, ref.selector or "train")
        elif ref.scheme == "registry" and ref.target in registered:
            after.append(stage_name(recipe, registered[ref.target], "register"))
    config = {
        "topology": recipe.topology.model_dump(),
        "models": {name: model.model_dump() for name, model in recipe.models.items()},
        "router": recipe.router.model_dump(), "serving": recipe.serving.model_dump(),
        "gateway": recipe.gateway.model_dump(), "verify": recipe.verify.model_dump(),
        "registry": recipe.registry.model_dump(), "device": found.device, "hold": recipe.serve,
    }  # fmt: skip
    experts = ", ".join(recipe.topology.experts)
    return Stage(
        name="serve", kind="serve", job="", config=config, inputs=inputs, after=tuple(dict.fromkeys(after)),
        title="serve until interrupted" if recipe.serve else "serve, ask every question, stop",
        threads=found.cores, reusable=False, uses=f"vLLM and gateway for {experts}",
        produces=f"http://{recipe.gateway.host}:{recipe.gateway.port or 'any'}/v1" if recipe.serve else "answers",
    )  # fmt: skip
