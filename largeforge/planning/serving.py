"""The stages that judge the routing of a topology, and serve it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from largeforge.forecast import placing
from largeforge.plan import Stage
from largeforge.planning.job import stage_name
from largeforge.recipe import model_ref, promises, routing_files

if TYPE_CHECKING:
    from largeforge.hardware import Machine
    from largeforge.recipe.schema import Expert, Gateway, Recipe

ROUTE = "route"
"""Name of the stage that judges routing, and of the input of the stage that serves."""


def route(recipe: Recipe, found: Machine, hashes: dict[str, str]) -> Stage:
    """Train the routers that learn, and refuse to serve where routing is not good enough; hashes are by path."""
    assert recipe.topology is not None and recipe.router is not None
    routing = recipe.routing
    names = {name for _, one in routing_files.routers(recipe.router) if (name := getattr(one, "expert", ""))}
    asked = [recipe.topology.experts[name] for name in names]
    inputs, after = _models(recipe, asked)
    files = [*routing_files.named(routing), *routing_files.learnt(recipe.router)]
    config = {
        "topology": recipe.topology.model_dump(),
        "models": {name: model.model_dump() for name, model in recipe.models.items()},
        "router": recipe.router.model_dump(), "routing": routing.model_dump(), "serving": recipe.serving.model_dump(),
        "registry": recipe.registry.model_dump(), "device": found.device, "seed": recipe.seed,
        "files": [hashes.get(path, "") for path in files],
    }  # fmt: skip
    gates = ", ".join(f"{metric} {condition}" for metric, condition in routing.gates.items())
    return Stage(
        name=ROUTE, kind="route", job="", title="refuse bad routing" if gates else "judge routing", config=config,
        inputs=inputs, after=tuple(after), threads=found.cores if asked else 1,
        uses=", ".join(filter(None, ["requests with their experts", "vLLM" if asked else "", gates])),
        produces="what routers learnt" if routing_files.paths(routing.path) else "go or no go",
        reusable=not any(_text(recipe, expert).startswith("registry:") for expert in asked),
    )  # fmt: skip


def serve(recipe: Recipe, found: Machine, before: list[Stage]) -> Stage:
    """Serve the experts of a topology, and ask what the recipe asks."""
    assert recipe.topology is not None and recipe.router is not None
    inputs, registers = _models(recipe, recipe.topology.experts.values())
    after = [stage.name for stage in before if stage.kind in ("gate", "merge", "quantize", "parity", "register")]
    after += registers
    if any(stage.name == ROUTE for stage in before):
        inputs[ROUTE] = ROUTE
    config: dict[str, Any] = {
        "topology": recipe.topology.model_dump(),
        "models": {name: model.model_dump() for name, model in recipe.models.items()},
        "router": recipe.router.model_dump(), "serving": recipe.serving.model_dump(),
        "gateway": recipe.served_gateway.model_dump(), "verify": recipe.verify.model_dump(),
        "registry": recipe.registry.model_dump(), "device": found.device, "hold": recipe.serve,
    }  # fmt: skip
    if recipe.load_test is not None:
        test = promises.load_test(recipe.load_test, recipe.serving.targets, recipe.slo)
        config["load_test"] = test.model_dump()
    experts = ", ".join(recipe.topology.experts)
    if is_deployed(recipe):
        config |= {
            "deploy": recipe.deploy.model_dump(), "hosts": recipe.hosts.model_dump(), "recipe": recipe.name,
            "needs": placing.needs(recipe, found),
        }  # fmt: skip
        if _is_gradual(recipe):
            config |= {
                "rollout": recipe.rollout.model_dump(),
                "slo": recipe.slo.model_dump(),
                "aliases": _aliases(recipe),
            }
        if recipe.monitoring.enabled:
            config |= {
                "monitoring": recipe.monitoring.model_dump(), "slo": recipe.slo.model_dump(),
                "price_usd": recipe.hardware.price_per_hour,
            }  # fmt: skip
        if recipe.autoscaling.enabled:
            config["autoscaling"] = recipe.autoscaling.model_dump()
        where = ", ".join(name for name, host in recipe.hosts.hosts.items() if not host.is_local)
        return Stage(
            name="deploy", kind="deploy", job="", config=config, inputs=inputs, after=tuple(dict.fromkeys(after)),
            title=f"put the servers on {where}", reusable=False, is_repeated=True,
            uses=f"vLLM and gateway for {experts}", produces=f"gateway on port {recipe.gateway.port}",
        )  # fmt: skip
    return Stage(
        name="serve", kind="serve", job="", config=config, inputs=inputs, after=tuple(dict.fromkeys(after)),
        title=_title(recipe),
        threads=found.cores, reusable=False, uses=f"vLLM and gateway for {experts}",
        produces=_address(recipe.gateway) if recipe.serve else "answers",
    )  # fmt: skip


def _is_gradual(recipe: Recipe) -> bool:
    """Whether any expert is rolled out step by step."""
    experts = recipe.topology.experts if recipe.topology else ()
    return any(recipe.rollout.of(name).strategy != "immediate" for name in experts)


def _aliases(recipe: Recipe) -> dict[str, str]:
    """Return by expert the `NAME@ALIAS` of the registry that its model is named by, or that its job gives it."""
    assert recipe.topology is not None
    found: dict[str, str] = {}
    for name, expert in recipe.topology.experts.items():
        ref = model_ref.parse(_text(recipe, expert))
        job = recipe.training_jobs.get(ref.target) if ref.scheme == "job" else None
        if ref.scheme == "registry" and not ref.is_version:
            found[name] = f"{ref.target}@{ref.selector}"
        elif job is not None and job.register_as:
            found[name] = f"{job.register_as}@{job.register_alias}"
    return found


def is_deployed(recipe: Recipe) -> bool:
    """Whether the servers are put on other hosts than this machine."""
    return any(
        not host.is_local and (host.has_role("serve") or host.has_role("gateway"))
        for host in recipe.hosts.hosts.values()
    )


def _address(gateway: Gateway) -> str:
    scheme = "https" if gateway.tls.certificate else "http"
    return f"{scheme}://{gateway.host}:{gateway.port or 'any'}/v1"


def _title(recipe: Recipe) -> str:
    """Say what the stage does, in order."""
    loaded = ", put it under load" if recipe.load_test else ""
    return f"serve{loaded} until interrupted" if recipe.serve else f"serve, ask every question{loaded}, stop"


def _models(recipe: Recipe, experts: Iterable[Expert]) -> tuple[dict[str, str], list[str]]:
    """Return the inputs that hold models of experts, and the stages that register others."""
    inputs: dict[str, str] = {}
    registers = []
    registered = {job.register_as: name for name, job in recipe.training_jobs.items() if job.register_as}
    for expert in experts:
        text = _text(recipe, expert)
        ref = model_ref.parse(text)
        if ref.scheme == "job":
            inputs[text] = stage_name(recipe, ref.target, ref.selector or "train")
        elif ref.scheme == "registry" and ref.target in registered:
            registers.append(stage_name(recipe, registered[ref.target], "register"))
    return inputs, registers


def _text(recipe: Recipe, expert: Expert) -> str:
    return expert.model if ":" in expert.model else recipe.models[expert.model].ref
