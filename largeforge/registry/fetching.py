"""Bring a model of the hub into a folder: what is safe of one commit, compared with what the hub says of it.

A stranger's model: only safetensors and text are taken, no pickles and no code. What broke off continues. Also a
program for hosts, which servers are deployed to: it reads an order from its standard input and tells how far it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import threading
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from largeforge import artifacts
from largeforge.errors import LargeForgeError, RegistryError, listed
from largeforge.registry import copying, files
from largeforge.registry.copying import Meter
from largeforge.secrets import without_passwords

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.registry.copying import FileHash, Watch

_PUBLIC = "https://huggingface.co"
_TAKEN = {".safetensors", ".json", ".jsonl", ".txt", ".md", ".model", ".jinja", ".yaml", ".yml", ".tiktoken", ".vocab"}
"""Endings of files that are taken from a stranger's repository."""
_THEIRS = ("huggingface_hub", "httpx", "requests")
_TOLD_EVERY_S = 2.0


def fetch(repo: str, commit: str, folder: Path, watch: Watch | None) -> dict[str, FileHash]:
    """Bring the files of a commit into a folder, and return them with their hashes.

    Raises RegistryError when it has no safetensors, or when files are not what the hub says.
    """
    with client(repo) as api:
        there = {path: entry for path, entry in tree(api, repo, commit).items() if _is_taken(path)}
        if not any(path.endswith(".safetensors") for path in there):
            raise RegistryError(f"{repo} at {commit} has no *.safetensors; nothing else is taken from a hub")
        total = sum(int(entry.size) for entry in there.values())
        with _watched(folder, watch, f"downloading {repo}", total):
            api.snapshot_download(repo, revision=commit, local_dir=str(folder), allow_patterns=list(there))
    found = _verified(folder, there, repo, watch)
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # by which the client would have continued
    return found


@contextlib.contextmanager
def client(repo: str) -> Iterator[Any]:
    """Give a client of the hub, and turn its errors into ours."""
    if endpoint() != _PUBLIC:
        os.environ.setdefault("HF_HUB_DISABLE_XET", "1")  # read at import; few other servers have Xet's protocol
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise RegistryError(f"{error}; the hub needs: pip install huggingface_hub") from error
    try:
        yield HfApi(endpoint=endpoint(), library_name="largeforge")
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _THEIRS and not isinstance(error, ValueError):
            raise
        told = " ".join(str(error).split())
        raise RegistryError(f"{without_passwords(endpoint())}, {repo}: {without_passwords(told)}") from error


def endpoint() -> str:
    """Return the address of the hub, or of another server that speaks its API."""
    return (os.environ.get("HF_ENDPOINT") or _PUBLIC).rstrip("/")


def tree(api: Any, repo: str, commit: str) -> dict[str, Any]:
    """Return what the hub says of each file of a commit."""
    return {entry.path: entry for entry in api.list_repo_tree(repo, recursive=True, revision=commit) if _is_file(entry)}


def is_same(entry: Any, found: FileHash, path: Path) -> bool:
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


def _is_file(entry: Any) -> bool:
    return type(entry).__name__ == "RepoFile"


def _is_taken(path: str) -> bool:
    name = PurePosixPath(path)
    if files.leads_out(path) or any(part.startswith(".") for part in name.parts) or path == files.LOCK:
        return False
    return name.suffix.lower() in _TAKEN


@contextlib.contextmanager
def _watched(folder: Path, watch: Watch | None, text: str, total: int) -> Iterator[None]:
    """Tell now and then how much of a download has arrived: the client has no other word on it."""
    if watch is None:
        yield
        return
    done = threading.Event()

    def tell() -> None:
        while not done.wait(_TOLD_EVERY_S):
            watch(text, min(total, _size(folder)), total)

    watch(text, 0, total)
    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


def _size(folder: Path) -> int:
    found = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # moved meanwhile
            found += path.stat().st_size if path.is_file() else 0
    return found


def _verified(folder: Path, there: dict[str, Any], repo: str, watch: Watch | None) -> dict[str, FileHash]:
    """Return what was downloaded of the model.

    Raises RegistryError that names each file that is not what the hub says.
    """
    meter = Meter(watch, f"verifying {repo}", sum(int(entry.size) for entry in there.values()))
    written: dict[str, FileHash] = {}
    wrong = []
    for name, entry in there.items():
        found = copying.hashed(folder / name, meter) if (folder / name).is_file() else None
        if found is None or not is_same(entry, found, folder / name):
            wrong.append(name)
            (folder / name).unlink(missing_ok=True)  # or it would be taken for whole the next time
        else:
            written[name] = found
    if wrong:
        raise RegistryError(f"{repo}: what came is not what the hub says, and is not used: {listed(wrong, 5)}")
    return written


def main(order: dict[str, str]) -> int:
    """Fetch `repo` at `commit` into `folder`, and write its manifest beside it, as a host's models have one."""
    if order["endpoint"]:
        os.environ["HF_ENDPOINT"] = order["endpoint"]
    if order["token"]:
        os.environ["HF_TOKEN"] = order["token"]
    folder = Path(order["folder"])
    folder.mkdir(parents=True, exist_ok=True)

    def watch(text: str, done: int, total: int) -> None:
        print(json.dumps({"text": text, "done": done, "total": total}), flush=True)

    try:
        found = fetch(order["repo"], order["commit"], folder, watch)
    except LargeForgeError as error:
        print(error, file=sys.stderr)
        return 1
    listing = {name: {"sha256": one.sha256, "size": one.size} for name, one in found.items()}
    manifest = {"files": listing, "bytes": sum(one.size for one in found.values())}
    artifacts.write_json(folder.with_name(f"{folder.name}.json"), manifest)
    return 0


if __name__ == "__main__":
    sys.exit(main(json.load(sys.stdin)))
