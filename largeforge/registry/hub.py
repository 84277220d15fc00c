"""Push a version to the Hugging Face Hub, or another server that speaks its API (`HF_ENDPOINT`), and pull models.

What is pushed is compared with what the hub then has, and what is pulled with what the hub says that it has: sha256
of large files, git's hash of small ones. A pulled model is a stranger's: only safetensors and text are taken, no
pickles and no code, it has no gates, and its lineage is the commit that it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from largeforge.errors import RegistryError, listed
from largeforge.registry import audit, fetching, files, staging
from largeforge.registry.records import Lineage

if TYPE_CHECKING:
    from largeforge.registry.models import ModelRegistry
    from largeforge.registry.records import ModelVersion, VersionSummary

_MOST_NAMED = 5


@dataclass(frozen=True)
class Pushed:
    """Where a version is on the hub."""

    address: str
    commit: str


def push(
    registry: ModelRegistry, version: VersionSummary, repo: str, *, private: bool, revision: str, why: str
) -> Pushed:
    """Make the repository hold this version and nothing else, in one commit, and look at what arrived.

    Raises RegistryError when the hub refuses it, or has other files afterwards.
    """
    with registry.database.reading() as client:
        path = registry.storage.fetch(client, version, registry.watch)
    sheet = files.read_sheet(path / files.MANIFEST, reference=version.reference)
    with fetching.client(repo) as api:
        api.create_repo(repo, private=private, exist_ok=True)
        if revision != "main":
            api.create_branch(repo, branch=revision, exist_ok=True)
        message = f"{version.reference}{f': {why}' if why else ''}"
        made = api.upload_folder(
            repo_id=repo, folder_path=str(path), revision=revision, commit_message=message, delete_patterns="*"
        )
        there = fetching.tree(api, repo, made.oid)
    wrong = [name for name, entry in sheet.files.items() if not fetching.is_same(there.get(name), entry, path / name)]
    if wrong:
        raise RegistryError(f"{repo} at {made.oid} does not hold what was pushed: {listed(wrong, _MOST_NAMED)}")
    with registry.database.writing() as client, audit.turn(registry.database, client, version.name) as turn:
        turn.begin("push", version, why=why, detail=f"hub:{repo}@{made.oid}")
        client.set_model_version_tag(version.name, str(version.version), f"hub {repo}", made.oid)
    return Pushed(f"{fetching.endpoint()}/{repo}", made.oid)


def pull(registry: ModelRegistry, repo: str, revision: str, *, name: str, alias: str, why: str) -> ModelVersion:
    """Register a model of the hub as a version of `name`.

    Raises RegistryError when there is none, when it has no safetensors, or when its files are not what the hub says.
    """
    registry.storage.folder.mkdir(parents=True, exist_ok=True)
    with staging.staging(registry.storage.folder) as staged:
        with fetching.client(repo) as api:
            commit = str(api.model_info(repo, revision=revision or None).sha)
        found = fetching.fetch(repo, commit, staged, registry.watch)
        written = {path: entry for path, entry in found.items() if path not in files.BESIDE}
        manifest = staged / files.MANIFEST
        sheet = files.read_sheet(manifest, reference=repo) if manifest.is_file() else None
        origin = f"hub:{repo}@{commit}"
        return registry.register(
            name,
            staged,
            kind="adapter" if "adapter_config.json" in written else "model",
            lineage=Lineage(recipe="", recipe_digest="", lock="", parents=[origin], origin=origin),
            metrics={},
            alias=alias,
            action="pull",
            why=why,
            expected=sheet,
            written=written,
        )
