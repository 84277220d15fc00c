"""A recipe's topology without where it runs: which model servers there are, how each is started, what it needs.

Pure: forecasts and known commits of the hub are handed in. Exporters turn it into files.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from largeforge.errors import Problem, RecipeError, ServingError
from largeforge.estimate.memory import GIB
from largeforge.exporting import checks, images, models, names
from largeforge.serving import placement, templates, vllm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from largeforge.exporters._exporter import Exporter
    from largeforge.exporting.models import Fetch
    from largeforge.forecast.stage import Forecast
    from largeforge.hardware import Machine
    from largeforge.recipe.schema import Recipe
    from largeforge.serving.placement import Placement

VLLM_PORT = 8000
GATEWAY_PORT = 8080
STATE = "/var/lib/largeforge"
"""Folder of the gateway that is written to: its file, what operators set, batches."""
GIVEN = "/etc/largeforge"
"""Folder with files that containers are given."""
TEMPLATE = "chat_template.jinja"

HOST_GIB_PER_PROCESS = 4
"""Host memory of each process of a server on GPUs: interpreter, torch, CUDA's host side; an allowance. The weights are
counted once beside it, since their files pass through the page cache while they are loaded."""
STARTUP_REST_S = 120.0
"""What a start takes beside loading weights: imports, compilation, CUDA graphs; an allowance."""
SPARE_STORAGE_GIB = 20
"""Volume beside the models: compiled kernels, an unfinished download."""


@dataclass(frozen=True)
class ModelServer:
    """One vLLM server and its replicas."""

    name: str
    """Name in DNS."""
    place: Placement
    command: tuple[str, ...]
    environment: Mapping[str, str]
    replicas: int
    num_gpus: int
    """GPUs of each replica."""
    memory_gib: int
    """Host memory of each replica."""
    shm_gib: int
    """Shared memory between the processes of a model on several GPUs; 0 where one process has it all."""
    storage_gib: int
    """Disk of each replica."""
    startup_s: float
    """How long it may take to be ready once its models are there."""
    fetches: tuple[Fetch, ...]
    chat_template: str = ""
    """Text of a template that takes the place of the model's own; empty for none."""

    @property
    def experts(self) -> tuple[str, ...]:
        """Names of the experts that it answers for."""
        return tuple(expert.name for expert in self.place.experts)

    @property
    def reads_volume(self) -> bool:
        """Whether some of its models are on a volume that somebody fills."""
        return bool(models.on_volume(self.place))


@dataclass(frozen=True)
class System:
    """All that a form of files needs to know."""

    recipe: Recipe
    machine: Machine
    servers: tuple[ModelServer, ...]
    vllm_image: str
    gateway_image: str
    is_image_built: bool
    """Whether the gateway's image comes from the Containerfile among the files."""
    notes: tuple[str, ...] = ()

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        return self.machine.device

    @property
    def batches(self) -> bool:
        """Whether the gateway takes files of requests."""
        return bool(self.recipe.gateway.batches.folder)

    @property
    def header(self) -> str:
        """Lines at the top of each file."""
        kind = self.recipe.export.name
        return (
            f"{self.recipe.name}: written by `python -m largeforge +recipe={self.recipe.name} export={kind}`.\n"
            "Change the recipe and export again: a file that was changed by hand is never overwritten."
        )


def system(recipe: Recipe, machine: Machine, forecasts: Mapping[str, Forecast], revisions: Mapping[str, str]) -> System:
    """Return what a recipe's topology consists of.

    `forecasts` are by the expert whose model a server loads, `revisions` commits by model reference. Raises RecipeError
    with everything that cannot be exported.
    """
    if problems := [*checks.check(recipe), *_other_gpus(recipe, machine), *_unknown_sizes(recipe, forecasts)]:
        raise RecipeError(problems)
    options: Any = recipe.export
    places = models.placements(recipe, revisions)
    return System(
        recipe=recipe, machine=machine,
        servers=tuple(_server(recipe, machine, place, forecasts.get(place.base.name)) for place in places),
        vllm_image=options.vllm_image or images.VLLM[machine.device],
        gateway_image=options.gateway_image or images.GATEWAY, is_image_built=not options.gateway_image,
        notes=tuple(_notes(recipe, places)),
    )  # fmt: skip


def fetch_command(one: ModelServer) -> list[str]:
    """Return the argv that downloads what a server needs."""
    wanted = [[fetch.repository, fetch.revision, fetch.folder] for fetch in one.fetches]
    return ["python3", "-c", models.FETCH, json.dumps(wanted)]


def cache_environment() -> dict[str, str]:
    """Return the variables that lead everything that a model server writes to its volume."""
    folder = models.CACHE
    return {
        "HOME": folder, "USER": "vllm",  # a user without an entry in /etc/passwd has no name that torch could ask for
        "HF_HOME": f"{folder}/huggingface", "VLLM_CACHE_ROOT": f"{folder}/vllm",
        "TORCHINDUCTOR_CACHE_DIR": f"{folder}/torchinductor", "TRITON_CACHE_DIR": f"{folder}/triton",
        "TIKTOKEN_RS_CACHE_DIR": f"{folder}/tiktoken",
    }  # fmt: skip


def _server(recipe: Recipe, machine: Machine, place: Placement, forecast: Forecast | None) -> ModelServer:
    options: Exporter = recipe.export  # type: ignore[assignment]
    serving = recipe.serving.model_copy(update={"python": "python3"})
    template = _template(place)
    size = serving.tensor_parallel_size
    command = vllm.command(
        serving, model=place.base.location, served_name=place.base.name,
        adapters={adapter.name: adapter.location for adapter in place.adapters}, port=VLLM_PORT, device=machine.device,
        revision=place.base.revision, chat_template=f"{GIVEN}/{TEMPLATE}" if template else "",
        generates=place.base.task == "generate", host="0.0.0.0",
    )  # fmt: skip
    threads = placement.threads_each(options.server_cpus, num_servers=1)
    environment = vllm.environment(serving, device=machine.device, offline=True, threads=threads)
    load_s = serving.targets.load_s
    fetches = models.fetches(place)
    return ModelServer(
        name=names.server(place.base.name), place=place, command=tuple(command),
        environment=cache_environment() | environment, replicas=place.base.replicas,
        num_gpus=size if machine.device == "cuda" else 0,
        memory_gib=math.ceil(options.memory_gib) or _memory_gib(machine, size, forecast),
        shm_gib=max(2, size) if size > 1 else 0,
        storage_gib=getattr(options, "storage_gib", 0) or _storage_gib(size, forecast, bool(fetches)),
        startup_s=load_s + STARTUP_REST_S if load_s else serving.startup_timeout_s,
        fetches=fetches, chat_template=template,
    )  # fmt: skip


def _template(place: Placement) -> str:
    try:
        return templates.chosen(place)
    except ServingError as error:
        raise RecipeError([Problem(f"topology.experts.{place.base.name}", str(error))]) from None


def _weights_bytes(size: int, forecast: Forecast | None) -> float:
    return forecast.memory.parts.get("weights", 0.0) * size if forecast and forecast.memory else 0.0


def _memory_gib(machine: Machine, size: int, forecast: Forecast | None) -> int:
    assert forecast is not None and forecast.memory is not None
    if machine.device == "cpu":
        return math.ceil(forecast.memory.total / GIB)
    return math.ceil(_weights_bytes(size, forecast) / GIB) + HOST_GIB_PER_PROCESS * (size + 1)


def _storage_gib(size: int, forecast: Forecast | None, fetches: bool) -> int:
    return math.ceil(_weights_bytes(size, forecast) / GIB if fetches else 0) + SPARE_STORAGE_GIB


def _other_gpus(recipe: Recipe, machine: Machine) -> list[Problem]:
    """Return why GPUs that are not NVIDIA's cannot be asked for as the options are."""
    options: Any = recipe.export
    is_named = bool(options.vllm_image) and "nvidia" not in getattr(options, "gpu_resource", "nvidia")
    if machine.device == "cpu" or "AMD" not in machine.gpu or is_named:
        return []
    rule = (
        "files are for NVIDIA GPUs; on Kubernetes others take export.vllm_image=… and export.gpu_resource=amd.com/gpu."
    )
    return [Problem("hardware", rule, given=machine.gpu)]


def _unknown_sizes(recipe: Recipe, forecasts: Mapping[str, Forecast]) -> list[Problem]:
    """Return which sizes must be given, since nothing tells how large a model is."""
    options: Any = recipe.export
    problems = []
    for name, forecast in forecasts.items():
        if forecast.memory is None:
            needed = ["memory_gib", *(["storage_gib"] if models.reference(recipe, name).startswith("hub:") else [])]
            why = "; ".join(forecast.assumptions) or "nothing tells how large its model is"
            rule = f"is required: the memory of {name}'s server is not known ({why})."
            problems += [Problem(f"export.{key}", rule) for key in needed if getattr(options, key, 1) == 0]
    return problems


def _notes(recipe: Recipe, places: Sequence[Placement]) -> list[str]:
    floating = [fetch for place in places for fetch in models.fetches(place) if not fetch.is_pinned]
    notes = [
        f"hub:{one.repository} is not pinned to a commit: each server takes what the hub has when it starts for the "
        f"first time; pin it with hub:{one.repository}@<commit>"
        for one in dict.fromkeys(replace(fetch, folder="") for fetch in floating)
    ]
    if recipe.gateway.tracing.endpoint:
        notes.append("the gateway sends traces; vLLM does not, since upstream's images may lack OpenTelemetry")
    if recipe.verify.questions:
        notes.append("the questions under `verify` are not asked")
    return notes
