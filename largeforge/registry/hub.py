"""Push a version to the Hugging Face Hub, or another server that speaks its API (`HF_ENDPOINT`), and pull models.

What is pushed is compared with what the hub then has, and what is pulled with what the hub says that it has: sha256
of large files, git's hash of small ones. A pulled model is a stranger's: only safetensors and text are taken, no
pickles and no code, it has no gates, and its lineage is the commit that it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from largeforge.errors import RegistryError, listed
from largeforge.registry import audit, copying, files, staging
from largeforge.registry.copying import Meter
from largeforge.registry.records import Lineage
from largeforge.secrets import without_passwords

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.registry.copying import FileHash
    from largeforge.registry.models import ModelRegistry
    from largeforge.registry.records import ModelVersion, VersionSummary

_PUBLIC = "https://huggingface.co"
_TAKEN = {".safetensors", ".json", ".jsonl", ".txt", ".md", ".model", ".jinja", ".yaml", ".yml", ".tiktoken", ".vocab"}
"""Endings of files that are taken from a stranger's repository."""
_THEIRS = ("huggingface_hub", "httpx", "requests")
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
    with _hub(repo) as api:
        api.create_repo(repo, private=private, exist_ok=True)
        if revision != "main":
            api.create_branch(repo, branch=revision, exist_ok=True)
        message = f"{version.reference}{f': {why}' if why else ''}"
        made = api.upload_folder(
            repo_id=repo, folder_path=str(path), revision=revision, commit_message=message, delete_patterns="*"
        )
        there = _tree(api, repo, made.oid)
    wrong = [name for name, entry in sheet.files.items() if not _is_same(there.get(name), entry, path / name)]
    if wrong:
        raise RegistryError(f"{repo} at {made.oid} does not hold what was pushed: {listed(wrong, _MOST_NAMED)}")
    with registry.database.writing() as client, audit.turn(registry.database, client, version.name) as turn:
        turn.begin("push", version, why=why, detail=f"hub:{repo}@{made.oid}")
        client.set_model_version_tag(version.name, str(version.version), f"hub {repo}", made.oid)
    return Pushed(f"{_endpoint()}/{repo}", made.oid)


def pull(registry: ModelRegistry, repo: str, revision: str, *, name: str, alias: str, why: str) -> ModelVersion:
    """Register a model of the hub as a version of `name`.

    Raises RegistryError when there is none, when it has no safetensors, or when its files are not what the hub says.
    """
    registry.storage.folder.mkdir(parents=True, exist_ok=True)
    with staging.staging(registry.storage.folder) as staged:
        with _hub(repo) as api:
            commit = str(api.model_info(repo, revision=revision or None).sha)
            there = {path: entry for path, entry in _tree(api, repo, commit).items() if _is_taken(path)}
            if not any(path.endswith(".safetensors") for path in there):
                raise RegistryError(f"{repo} at {commit} has no *.safetensors; nothing else is taken from a hub")
            _download(api, repo, commit, list(there), staged, registry)
        written = _verified(staged, there, repo, registry)
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


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or _PUBLIC).rstrip("/")


@contextlib.contextmanager
def _hub(repo: str) -> Iterator[Any]:
    """Give a client of the hub, and turn its errors into ours."""
    if _endpoint() != _PUBLIC:
        os.environ.setdefault("HF_HUB_DISABLE_XET", "1")  # read at import; few other servers have Xet's protocol
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise RegistryError(f"{error}; the hub needs: pip install huggingface_hub") from error
    try:
        yield HfApi(endpoint=_endpoint(), library_name="largeforge")
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _THEIRS and not isinstance(error, ValueError):
            raise
        told = " ".join(str(error).split())
        raise RegistryError(f"{without_passwords(_endpoint())}, {repo}: {without_passwords(told)}") from error


def _tree(api: Any, repo: str, commit: str) -> dict[str, Any]:
    """Return what the hub says of each file of a commit."""
    return {entry.path: entry for entry in api.list_repo_tree(repo, recursive=True, revision=commit) if _is_file(entry)}


def _is_file(entry: Any) -> bool:
    return type(entry).__name__ == "RepoFile"


def _is_taken(path: str) -> bool:
    name = PurePosixPath(path)
    if files.leads_out(path) or any(part.startswith(".") for part in name.parts) or path == files.LOCK:
        return False
    return name.suffix.lower() in _TAKEN


def _download(api: Any, repo: str, commit: str, names: list[str], target: Path, registry: ModelRegistry) -> None:
    import shutil

    if registry.watch:
        registry.watch(f"downloading {repo}", 0, 0)
    api.snapshot_download(repo, revision=commit, local_dir=str(target), allow_patterns=names)
    shutil.rmtree(target / ".cache", ignore_errors=True)


def _verified(folder: Path, there: dict[str, Any], repo: str, registry: ModelRegistry) -> dict[str, FileHash]:
    """Return what was downloaded of the model.

    Raises RegistryError that names each file that is not what the hub says.
    """
    meter = Meter(registry.watch, f"verifying {repo}", sum(int(entry.size) for entry in there.values()))
    written: dict[str, FileHash] = {}
    wrong = []
    for name, entry in there.items():
        found = copying.hashed(folder / name, meter) if (folder / name).is_file() else None
        if found is None or not _is_same(entry, found, folder / name):
            wrong.append(name)
        elif name not in files.BESIDE:
            written[name] = found
    if wrong:
        raise RegistryError(f"{repo}: what came is not what the hub says, nothing was registered: {listed(wrong, 5)}")
    return written


def _is_same(entry: Any, found: FileHash, path: Path) -> bool:
    """Whether a file is what the hub says: by sha256 for one in LFS, else by git's hash of a blob."""
    if entry is None or int(entry.size) != found.size:
        return False
    if entry.lfs is not None:
        return str(entry.lfs.sha256) == found.sha256
    blob = hashlib.sha1(b"blob %d\0" % found.size, usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(copying.CHUNK_BYTES):
            blob.update(chunk)
    return blob.hexdigest() == str(entry.blob_id)
