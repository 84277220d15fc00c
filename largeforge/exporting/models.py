"""Where a model server has its models from: the hub, or a volume that somebody else fills.

Models of the hub are downloaded before the server starts, by a step of its own in the same image, so that the server
itself needs no network and no token, and its start-up is the time to load and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from largeforge.recipe import model_ref
from largeforge.serving.placement import Placement, ServedExpert

if TYPE_CHECKING:
    from collections.abc import Mapping

    from largeforge.recipe.schema import Recipe

CACHE = "/cache"
"""Volume of a model server: downloads and compiled kernels."""
MODELS = "/models"
"""Volume with models that are on no hub, one folder for each expert."""

FETCH = """\
import json, os, pathlib, sys
from huggingface_hub import snapshot_download

left_out = ["original/*", "metal/*", "*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx"]
for repository, revision, folder in json.loads(sys.argv[1]):
    where = {"local_dir": folder} if folder else {}
    path = snapshot_download(repository, revision=revision or None, ignore_patterns=left_out, **where)
    if not any(pathlib.Path(path).glob("*.safetensors")):
        sys.exit(f"{repository} has no *.safetensors")
    config = pathlib.Path(path) / "config.json"
    if config.is_file() and json.loads(config.read_text()).get("model_type") == "gpt_oss":
        pathlib.Path(os.environ["TIKTOKEN_RS_CACHE_DIR"]).mkdir(parents=True, exist_ok=True)
        from openai_harmony import load_harmony_encoding
        load_harmony_encoding("HarmonyGptOss")  # its vocabulary is not among the model's files
    print(f"{repository}: {path}")
"""
"""Program that downloads models; what is there already is kept. Its argument is JSON: lists of repository, revision and
folder; no folder is the hub's cache."""


@dataclass(frozen=True)
class Fetch:
    """A repository of the hub that a server needs."""

    repository: str
    revision: str
    """Commit or branch; empty for the default branch."""
    folder: str = ""
    """Where its files go; empty for the hub's cache."""

    @property
    def is_pinned(self) -> bool:
        """Whether the revision can never mean anything else."""
        return len(self.revision) == 40 and set(self.revision) <= set("0123456789abcdef")


def reference(recipe: Recipe, expert: str) -> str:
    """Return the model reference of an expert."""
    assert recipe.topology is not None
    given = recipe.topology.experts[expert].model
    return given if ":" in given else recipe.models[given].ref


def placements(recipe: Recipe, revisions: Mapping[str, str]) -> list[Placement]:
    """Return the servers of a topology, each once; `revisions` are commits that references are known to mean."""
    assert recipe.topology is not None
    served = {name: _served(recipe, name, revisions) for name in recipe.topology.experts}
    return [
        Placement(base, tuple(one for one in served.values() if one.adapter_on == base.name))
        for base in served.values()
        if not base.adapter_on
    ]


def fetches(place: Placement) -> tuple[Fetch, ...]:
    """Return what a server's experts need from the hub."""
    return tuple(
        Fetch(
            model_ref.parse(expert.reference).target,
            expert.revision,
            expert.location if expert.location.startswith(CACHE) else "",
        )
        for expert in place.experts
        if expert.reference.startswith("hub:")
    )


def on_volume(place: Placement) -> tuple[ServedExpert, ...]:
    """Return those of a server's experts whose files somebody must put onto a volume."""
    return tuple(expert for expert in place.experts if not expert.reference.startswith("hub:"))


def _served(recipe: Recipe, name: str, revisions: Mapping[str, str]) -> ServedExpert:
    assert recipe.topology is not None
    expert = recipe.topology.experts[name]
    text = reference(recipe, name)
    ref = model_ref.parse(text)
    template = "" if ":" in expert.model else recipe.models[expert.model].chat_template
    revision = ""
    if ref.scheme == "hub":
        revision = revisions.get(text, "") or ref.selector
        ref = model_ref.ModelRef("hub", ref.target, revision)
        location = f"{CACHE}/adapters/{name}" if expert.adapter_on else ref.target
    else:
        location = f"{MODELS}/{name}"
    return ServedExpert(
        name=name, location=location, reference=str(ref), revision=revision, replicas=expert.replicas,
        adapter_on=expert.adapter_on, chat_template=template or None, template_is_given=bool(template),
        task=expert.task,
    )  # fmt: skip
