"""What the vLLM servers of a topology need, and what would make them need less."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from largeforge.estimate.memory import GIB
from largeforge.estimate.serving import Server, refuses_together, serving_memory
from largeforge.estimate.stored import BASES, BITS
from largeforge.estimate.targets import check
from largeforge.estimate.throughput import Load, Speed, in_flight_limit
from largeforge.forecast.fixes import Change
from largeforge.forecast.stage import Forecast, ServingForecast
from largeforge.forecast.text import gib
from largeforge.recipe import model_ref

if TYPE_CHECKING:
    from largeforge.estimate.shape import Shape
    from largeforge.forecast.models import Models
    from largeforge.hardware import Machine
    from largeforge.recipe.schema import Expert, Model, Recipe

MOST_GPUS = 16
"""Largest tensor parallelism that is tried in place of one that is refused."""

_DTYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
_KV_CACHE_DTYPES = ("auto", "fp8", "fp8_e4m3", "fp8_e5m2")


def servers(recipe: Recipe, machine: Machine, models: Models) -> dict[str, Forecast]:
    """Return a forecast for each vLLM server of the recipe's topology, by the expert whose model it loads; further
    replicas have their number, as in `general-2`."""
    assert recipe.topology is not None
    experts = recipe.topology.experts
    planned: dict[str, Server] = {}
    found: dict[str, Forecast] = {}
    for name, expert in experts.items():
        if expert.adapter_on:
            continue
        adapters = [other for other in experts.values() if other.adapter_on == name]
        known = models.of(_model(recipe, expert))
        weights = _weights(recipe, machine, known.weights)
        notes = (known.note,) if known.note else ()
        if known.shape is None:
            found[name] = Forecast(assumptions=notes)
        elif weights not in BASES and weights not in BITS:
            found[name] = Forecast(assumptions=(*notes, f"memory of {name} is not known: its weights are {weights}"))
        else:
            planned[name] = Server(
                _shape(recipe, known.shape), weights=weights, **_options_with(recipe, machine, adapters)
            )
            found[name] = _forecast(recipe, machine, planned[name], notes)
        for replica in range(2, expert.replicas + 1):
            found[f"{name}-{replica}"] = found[name]
            if name in planned:
                planned[f"{name}-{replica}"] = planned[name]
    if together := refuses_together(list(planned.items())) or _too_much_for_the_host(machine, found):
        found = {name: replace(forecast, refusal=together) for name, forecast in found.items()}
    return found


def _too_much_for_the_host(machine: Machine, found: dict[str, Forecast]) -> str:
    """Return why servers that fit one by one do not fit into a CPU's memory together, "" when they do."""
    needed = {name: forecast.memory.total for name, forecast in found.items() if forecast.memory}
    if machine.device != "cpu" or len(needed) < 2 or any(forecast.verdict == "too big" for forecast in found.values()):
        return ""
    if sum(needed.values()) <= machine.usable_bytes:
        return ""
    parts = " + ".join(f"{gib(size)} ({name})" for name, size in needed.items())
    return (
        f"the servers need {parts} = {gib(sum(needed.values()))} GiB together, and this machine has "
        f"{gib(machine.usable_bytes)} GiB that can be used"
    )


def of_job(recipe: Recipe, name: str, machine: Machine, models: Models) -> Forecast:
    """Return what a server of a job's model needs while it is judged: the whole model that training started from,
    with room for the adapter where there is one."""
    job = recipe.training_jobs[name]
    known = models.of(job.model)
    weights = _weights(recipe, machine, known.weights)
    notes = (known.note,) if known.note else ()
    if known.shape is None or (weights not in BASES and weights not in BITS):
        return Forecast(assumptions=notes)
    rank = getattr(job.adapter, "lora_r", 0)
    options = _options(recipe, machine, max_loras=1 if rank else 0, max_lora_rank=rank)
    return _forecast(recipe, machine, Server(_shape(recipe, known.shape), weights=weights, **options), notes)


def candidates(recipe: Recipe, machine: Machine, forecast: Forecast) -> list[list[Change]]:
    """Return kinds of changes that may make a server fit, what costs the user least first."""
    serving = recipe.serving
    room = forecast.serving.memory if forecast.serving else None
    longest = min(room.longest, room.max_positions or room.longest) // 256 * 256 if room else 0
    shorter = [Change((("serving.max_model_len", longest),), "longer conversations are refused")] if longest else []
    if machine.device == "cpu":
        halved = Change((("serving.dtype", "bfloat16"),), "computes in bf16")
        return [
            [Change((("serving.cpu_kvcache_gib", 1),))] if serving.cpu_kvcache_gib > 1 else [],
            [halved] if serving.dtype in ("auto", "float32") else [],
            shorter,
        ]
    return [
        _shares(recipe),
        [
            Change((("serving.gpu_memory_utilization", share),), "little else may use the GPU")
            for share in (0.92, 0.95)
            if serving.gpu_memory_utilization < share or serving.gpu_memory_utilization > 0.95
        ],
        [
            Change((("serving.max_num_seqs", number),), f"{number} requests in flight")
            for number in (128, 64, 32, 16)
            if serving.max_num_seqs > number
        ],
        [
            Change((("serving.tensor_parallel_size", size),), f"over {size} GPUs" if size > 1 else "on one GPU")
            for size in _sizes(serving.tensor_parallel_size, forecast, machine.num_gpus)
        ],
        [Change((("serving.extra.kv-cache-dtype", "fp8"),), "keys and values in 8 bits")]
        if "kv-cache-dtype" not in serving.extra
        else [],
        [] if serving.enforce_eager else [Change((("serving.enforce_eager", True),), "no CUDA graphs: slower answers")],
        shorter,
    ]


def _shares(recipe: Recipe) -> list[Change]:
    """Return the share of a GPU that is left for each of several servers that want more than all of it."""
    experts = recipe.topology.experts.values() if recipe.topology else ()
    servers = sum(expert.replicas for expert in experts if not expert.adapter_on)
    if servers < 2 or servers * recipe.serving.gpu_memory_utilization <= 1:
        return []
    return [Change((("serving.gpu_memory_utilization", int(95 / servers) / 100),), "for each server")]


def _sizes(given: int, forecast: Forecast, num_gpus: int) -> list[int]:
    """Return more GPUs where memory is short; where the number itself is refused, all others, the most first."""
    if forecast.refusal and forecast.needed_bytes <= forecast.usable_bytes:
        return [size for size in range(min(num_gpus, MOST_GPUS), 0, -1) if size != given]
    return [2**power for power in range(1, 9) if given < 2**power <= num_gpus]


def _shape(recipe: Recipe, shape: Shape) -> Shape:
    """Return a model's shape; without a longest context where options of vLLM may stretch it."""
    stretched = recipe.serving.max_model_len and {"hf-overrides", "rope-scaling"} & set(recipe.serving.extra)
    return replace(shape, max_positions=0) if stretched else shape


def _model(recipe: Recipe, expert: Expert) -> Model | str:
    """Return an expert's model; that of the job that will register it, where the recipe itself does."""
    if ":" not in expert.model:
        return recipe.models[expert.model]
    ref = model_ref.parse(expert.model)
    jobs = {job.register_as: job for job in recipe.training_jobs.values()}
    return jobs[ref.target].model if ref.scheme == "registry" and ref.target in jobs else expert.model


def _weights(recipe: Recipe, machine: Machine, stored: str) -> str:
    """Return the format that vLLM holds the weights in: as stored where they are quantized, else `serving.dtype`."""
    if stored not in BASES:
        return stored
    if recipe.serving.dtype != "auto":
        return _DTYPES[recipe.serving.dtype]
    if machine.device == "cpu":
        return "fp32"
    return (
        "bf16" if stored == "fp32" else stored
    )  # vLLM's `auto` halves fp32 (vllm/config/model.py, `_get_and_verify_dtype`)


def _options_with(recipe: Recipe, machine: Machine, adapters: list[Expert]) -> dict[str, Any]:
    rank = _rank(recipe, adapters) if adapters else 0
    return _options(recipe, machine, max_loras=len(adapters), max_lora_rank=rank)


def _options(recipe: Recipe, machine: Machine, *, max_loras: int, max_lora_rank: int) -> dict[str, Any]:
    serving = recipe.serving
    kv = str(serving.extra.get("kv-cache-dtype", "auto"))
    batched = serving.extra.get("max-num-batched-tokens", 0)
    return {
        "kv_cache_dtype": kv if kv in _KV_CACHE_DTYPES else "auto",
        "max_model_len": serving.max_model_len,
        "max_num_seqs": serving.max_num_seqs,
        "max_num_batched_tokens": batched if isinstance(batched, int) else 0,
        "tensor_parallel_size": serving.tensor_parallel_size,
        "gpu_memory_utilization": serving.gpu_memory_utilization,
        "max_loras": max_loras,
        "max_lora_rank": max_lora_rank,
        "enforce_eager": serving.enforce_eager,
        "device": machine.device,
        "cpu_kvcache_bytes": serving.cpu_kvcache_gib * GIB,
    }


def _rank(recipe: Recipe, adapters: list[Expert]) -> int:
    """Return the largest rank among the adapters that this recipe trains; `max_lora_rank` where another makes one."""
    ranks = []
    for expert in adapters:
        ref = model_ref.parse(expert.model) if ":" in expert.model else None
        job = recipe.training_jobs.get(ref.target) if ref and ref.scheme == "job" else None
        ranks.append(
            getattr(job.adapter, "lora_r", recipe.serving.max_lora_rank) if job else recipe.serving.max_lora_rank
        )
    return max(ranks)


def _forecast(recipe: Recipe, machine: Machine, server: Server, notes: tuple[str, ...]) -> Forecast:
    found = serving_memory(server, usable_bytes=machine.usable_bytes, gpu=machine.gpu, num_gpus=machine.num_gpus)
    blocks = found.cache.blocks(found.max_model_len)
    load = _load(recipe)
    speed = Speed(server, machine.rates, in_flight_limit(server, found.sequences(load.length)))
    targets = recipe.serving.targets
    findings = (
        check(speed, load, ttft_p95_ms=targets.ttft_p95_ms, tokens_per_second=targets.tokens_per_second)
        if speed.is_known
        else []
    )
    asked_for = targets.requests_per_second or targets.ttft_p95_ms or targets.tokens_per_second
    if asked_for and load.length > found.max_model_len:
        asked = f"serving.targets ask for requests of {load.length} tokens"
        notes = (*notes, f"{asked}, and serving.max_model_len allows {found.max_model_len}")
    return Forecast(
        memory=found.memory,
        usable_bytes=found.budget_bytes,
        spare_bytes=(found.num_blocks - 1 - blocks) * found.cache.block_bytes,
        refusal=found.problem,
        assumptions=notes,
        serving=ServingForecast(found, speed if speed.is_known else None, load, tuple(findings)),
    )


def _load(recipe: Recipe) -> Load:
    targets = recipe.serving.targets
    return Load(targets.prompt_tokens, targets.completion_tokens, targets.requests_per_second)
