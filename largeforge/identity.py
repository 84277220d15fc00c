"""What a model reference means now, as far as files here tell: nothing is downloaded, loaded or imported.

`registry:` on a local database, `path:` and `run:` have content that is known before a run, so
that it belongs to the lock's digest. A `hub:` reference means what is in the local cache, if it is
there; a branch may move with the next download, so that this stands beside the digest.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.artifacts import digest, file_sha256, read_manifest
from largeforge.cache import cached_sha256
from largeforge.recipe import further_models, hub, model_ref
from largeforge.recipe import registered as versions
from largeforge.recipe.hub import NotFound

if TYPE_CHECKING:
    from largeforge.recipe.model_ref import ModelRef
    from largeforge.recipe.schema import Recipe, Registry

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", "spiece.model",
)  # fmt: skip
"""Files that decide how text becomes tokens, under the names that transformers gives them."""
CHAT_TEMPLATE = "chat_template.jinja"


def references(recipe: Recipe) -> list[str]:
    """Return all model references of a recipe that are not made by the recipe itself."""
    registered = {job.register_as for job in recipe.training_jobs.values()}
    jobs = recipe.training_jobs.values()
    found = [job.model.ref for job in jobs]
    found += [named.reference for job in jobs for named in further_models.of_job(job) if named.reference]
    found += [model.ref for model in recipe.models.values()]
    if recipe.topology is not None:
        found += [expert.model for expert in recipe.topology.experts.values() if ":" in expert.model]
    parsed = {text: model_ref.parse(text) for text in dict.fromkeys(found)}
    return [
        text
        for text, ref in parsed.items()
        if ref.scheme not in ("job", "tiny")
        and not (ref.scheme == "registry" and ref.target in registered and not ref.is_version)
    ]


def of_models(recipe: Recipe) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
    """Return, by reference, what is fixed before a run, and what only the local hub cache says."""
    fixed: dict[str, dict[str, str]] = {}
    floating: dict[str, dict[str, str]] = {}
    for text in references(recipe):
        ref = model_ref.parse(text)
        found = of_model(ref, recipe.registry)
        if found:
            (floating if ref.scheme == "hub" else fixed)[text] = found
    return fixed, floating


def of_model(ref: ModelRef, registry: Registry) -> dict[str, str]:
    """Return what identifies the files of a model; empty when nothing here tells.

    `sha256` is over names and content of all files; `tokenizer` and `chat_template` are
    parts of it; `revision` is a hub commit; `reference`, a registry version.
    """
    if ref.scheme == "path":
        folder = Path(ref.target).expanduser()
        return {"sha256": _content(folder), **parts(folder)} if folder.is_dir() else {}
    if ref.scheme == "run":
        manifest = read_manifest(Path(ref.target) / ref.selector)
        folder = Path(ref.target) / ref.selector / "out"
        return {"sha256": digest(manifest.files), **parts(folder)} if manifest else {}
    if ref.scheme == "registry":
        return registered(ref, registry)
    if ref.scheme == "hub":
        return of_hub(ref)
    return {}


def parts(folder: Path) -> dict[str, str]:
    """Return the sha256 of a folder's tokenizer and chat template; of each that is there."""
    files = {name: file_sha256(folder / name) for name in TOKENIZER_FILES if (folder / name).is_file()}
    template = chat_template(folder)
    found = {
        "tokenizer": digest(files) if files else "",
        "chat_template": _template_sha256(template) if template else "",
    }
    return {name: sha256 for name, sha256 in found.items() if sha256}


def _template_sha256(template: Any) -> str:
    """Return the sha256 of a template's text; of several by name, of all."""
    return hashlib.sha256(template.encode()).hexdigest() if isinstance(template, str) else digest(template)


def chat_template(folder: Path) -> Any:
    """Return the chat template of a tokenizer's folder, wherever transformers keeps it; None without one."""
    try:
        if (folder / CHAT_TEMPLATE).is_file():
            return (folder / CHAT_TEMPLATE).read_text(encoding="utf-8")
        return json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template")
    except (OSError, ValueError, AttributeError):
        return None


def registered(ref: ModelRef, registry: Registry) -> dict[str, str]:
    """Return the version that a registry reference means in a local database, with the digest of its files.

    Empty for a server, and when there is no such model.
    """
    try:
        found = versions.version(ref, registry)
    except NotFound:
        return {}
    if "largeforge.digest" not in found.tags:
        return {}
    known = {"reference": f"registry:{ref.target}/{found.number}", "sha256": found.tags["largeforge.digest"]}
    return known | ({"lock": found.tags["largeforge.lock"]} if found.tags.get("largeforge.lock") else {})


def _content(folder: Path) -> str:
    """Return a digest of names and contents of the files of a model folder; hidden ones are no part of it."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return digest({path.name: cached_sha256(path) for path in files})


def of_hub(ref: ModelRef) -> dict[str, str]:
    """Return what the local cache has of a hub reference: commit, tokenizer, chat template; empty when nothing."""
    try:
        folder = hub.snapshot(ref)
    except NotFound:
        return {}
    return {"revision": folder.name, **parts(folder)}
