"""What a model reference means now, as far as files here tell: nothing is downloaded, loaded or imported.

`registry:` on a local database, `path:` and `run:` have content that is known before a run, so
that it belongs to the lock's digest. A `hub:` reference means what is in the local cache, if it is
there; a branch may move with the next download, so that this stands beside the digest.
"""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.artifacts import digest, file_sha256, read_manifest
from largeforge.cache import cached_sha256
from largeforge.recipe import model_ref
from largeforge.recipe.hub import cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.recipe.model_ref import ModelRef
    from largeforge.recipe.schema import Recipe, Registry

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", "spiece.model",
)  # fmt: skip
"""Files that decide how text becomes tokens, under the names that transformers gives them."""
CHAT_TEMPLATE = "chat_template.jinja"
COMMIT = re.compile("[0-9a-f]{40}")
"""A revision of a hub repository that can never mean anything else."""
SQLITE = "sqlite:///"


def references(recipe: Recipe) -> list[str]:
    """Return all model references of a recipe that are not made by the recipe itself."""
    registered = {job.register_as for job in recipe.training_jobs.values()}
    found = [job.model.ref for job in recipe.training_jobs.values()]
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
        "chat_template": digest(template) if template else "",
    }
    return {name: sha256 for name, sha256 in found.items() if sha256}


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

    Read from MLflow's tables (3.x: `registered_model_aliases`, `model_version_tags`), since importing
    MLflow takes longer than a plan. Empty for a server, and when there is no such model.
    """
    if not registry.uri.startswith(SQLITE):
        return {}
    path = Path(registry.uri.removeprefix(SQLITE)).absolute()
    if not path.is_file():
        return {}
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as database:
            return dict(_version(database, ref))
    except sqlite3.Error:
        return {}


def _version(database: sqlite3.Connection, ref: ModelRef) -> Iterator[tuple[str, str]]:
    number = ref.selector
    if not ref.is_version:
        query = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?"
        row = database.execute(query, (ref.target, ref.selector or "champion")).fetchone()
        number = str(row[0]) if row else ""
    query = "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?"
    tags = dict(database.execute(query, (ref.target, int(number)))) if number else {}
    if "largeforge.digest" in tags:
        yield "reference", f"registry:{ref.target}/{number}"
        yield "sha256", str(tags["largeforge.digest"])
        if tags.get("largeforge.lock"):
            yield "lock", str(tags["largeforge.lock"])


def _content(folder: Path) -> str:
    """Return a digest of names and contents of the files of a model folder; hidden ones are no part of it."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return digest({path.name: cached_sha256(path) for path in files})


def hub_commit(ref: ModelRef) -> str:
    """Return the commit that a hub reference means in the local cache; empty when it is not there.

    Layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
    """
    folder = _repository(ref)
    revision = ref.selector or "main"
    try:
        commit = (folder / "refs" / revision).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        commit = revision
    return commit if COMMIT.fullmatch(commit) and (folder / "snapshots" / commit).is_dir() else ""


def of_hub(ref: ModelRef) -> dict[str, str]:
    """Return what the local cache has of a hub reference: commit, tokenizer, chat template; empty when nothing."""
    commit = hub_commit(ref)
    return {"revision": commit, **parts(_repository(ref) / "snapshots" / commit)} if commit else {}


def _repository(ref: ModelRef) -> Path:
    return cache_folder() / f"models--{ref.target.replace('/', '--')}"
