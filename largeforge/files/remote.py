"""Versions and lists of files on remote stores, through fsspec; nothing is downloaded here.

`s3://` and `gs://` are read with s3fs and gcsfs where these are installed, otherwise with what pyarrow
brings along; credentials are found by those libraries, in the environment or their own files.
`hf://datasets/ORG/NAME[@REVISION]` without a path is what `datasets` takes for the rows of the split
`train`; `?config=NAME` and `?split=NAME` choose others.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs

from largeforge import cache
from largeforge.artifacts import digest
from largeforge.errors import DataError, nearest
from largeforge.files import arrow_store
from largeforge.files.paths import SUFFIXES, is_pattern, is_remote, may_have_rows, within
from largeforge.secrets import without_passwords

if TYPE_CHECKING:
    from collections.abc import Callable

DEADLINE_S = 15.0
"""How long a store may take to say what it has."""
FRESH_S = 5.0
"""How long its answer is taken for current: a plan and the run that follows it ask once."""

_HF = re.compile(
    r"hf://datasets/(?P<repo>[^/@?]+/[^/@?]+)(@(?P<revision>[^/?]+))?(/(?P<path>[^?]*))?(\?(?P<query>[^?/]*))?"
)
_HF_KINDS = ("hf://datasets/", "hf://models/", "hf://spaces/", "hf://buckets/")
_NOT_ALLOWED = re.compile(r"ACCESS_DENIED|Forbidden|\b40[13]\b|credential", re.IGNORECASE)
_NOT_FOUND = re.compile(r"NotFound|NO_SUCH|Path does not exist", re.IGNORECASE)
_COMMIT = re.compile(r"[0-9a-f]{40}")
PACKAGES = {"az": "adlfs", "abfs": "adlfs", "sftp": "paramiko", **arrow_store.PACKAGES}
"""Scheme of an address to the package that reads it, where that may be missing."""
_VERSION_KEYS = (
    "ETag", "etag", "md5Hash", "generation", "blob_id", "checksum", "size", "mtime", "LastModified", "last_modified",
    "Last-Modified", "Content-MD5", "Digest",
    "updated", "created",
)  # fmt: skip
"""What stores say of a file that changes whenever it does; the first of a kind that is there is enough."""
_Found = TypeVar("_Found")


class Unreachable(DataError):
    """A store does not answer; the text says which and why."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of a store."""

    url: str
    size: int
    """Bytes; 0 where the store does not say."""
    version: str
    """Changes whenever the file does."""


@dataclass(frozen=True)
class Version:
    """What an address means at one time."""

    name: str
    """A commit, or a digest of the names and versions of all files."""
    asked: float
    """When the store said so, in seconds since the epoch."""
    fault: str = ""
    """Why the store could not be asked again since."""


def version_of(url: str) -> Version:
    """Return what `url` means now, or if the store does not answer, what it meant when it last did.

    Raises DataError when there is no such file or it may not be read, Unreachable when nothing is known.
    """
    kept = cache.lookup("remote_versions", url)
    last = Version(**kept) if kept else None
    if last and 0 <= time.time() - last.asked < FRESH_S:
        return last
    try:
        found = Version(_within_deadline(url, lambda: _version(url)), time.time())
    except Unreachable as error:
        if last is None:
            raise
        return replace(last, fault=str(error))
    cache.keep("remote_versions", url, asdict(found))
    return found


def files_of(url: str, version: Version) -> list[RemoteFile]:
    """Return the files that `url` means in a version, in a fixed order.

    Raises DataError when there are none, Unreachable when the store does not answer.
    """
    kept = kept_files(url, version)
    if kept is not None:
        return kept
    found = _within_deadline(url, lambda: _listed(_at(url, version)), seconds=8 * DEADLINE_S)
    return keep_files(url, version, found)


def kept_files(url: str, version: Version) -> list[RemoteFile] | None:
    """Return the files of a version that was listed before; None where it was not."""
    kept = cache.lookup("remote_files", [url, version.name])
    return [RemoteFile(**entry) for entry in kept] if kept else None


def keep_files(url: str, version: Version, files: list[RemoteFile]) -> list[RemoteFile]:
    """Remember the files of a version, and return them."""
    cache.keep("remote_files", [url, version.name], [asdict(file) for file in files])
    return files


def opened(url: str) -> tuple[Any, str]:
    """Return the file system of fsspec for an address, and the path on it.

    Raises DataError when there is none, or when a package for it is missing.
    """
    protocol, _, rest = url.partition("://")
    try:
        import fsspec
    except ImportError:
        raise DataError(f"{url}: reading remote data needs fsspec: pip install fsspec") from None
    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(url)
        return found
    except ImportError as error:
        if protocol in ("s3", "s3a", "gs", "gcs"):
            return arrow_store.opened(protocol, rest), rest
        package = PACKAGES.get(protocol)
        hint = f"reading {protocol}:// needs a package: pip install {package}" if package else str(error)
        raise DataError(f"{url}: {hint}") from None
    except ValueError:
        close = nearest(protocol, fsspec.available_protocols())
        hint = f" Did you mean {close}://?" if close else ""
        raise DataError(f"{url}: {protocol}:// is nothing that fsspec can read.{hint}") from None


def _version(url: str) -> str:
    hub = _HF.fullmatch(url)
    if hub is None:
        files = _listed(url)
        name = digest([asdict(file) for file in files])
        keep_files(url, Version(name, 0.0), files)
        return name
    revision = hub["revision"] or "main"
    if _COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi

    return str(HfApi().repo_info(hub["repo"], repo_type="dataset", revision=revision, timeout=DEADLINE_S).sha)


def _at(url: str, version: Version) -> str:
    """Return the address of one version, where the store has addresses for versions."""
    hub = _HF.fullmatch(url)
    if hub is None:
        return url
    path, query = hub["path"] or "", hub["query"] or ""
    return f"hf://datasets/{hub['repo']}@{version.name}{f'/{path}' if path else ''}{f'?{query}' if query else ''}"


def _listed(url: str) -> list[RemoteFile]:
    hub = _HF.fullmatch(url)
    if hub is not None and not hub["path"]:
        parts = _of_dataset(hub["repo"], hub["revision"] or "main", hub["query"])
        return [file for part in parts for file in _list(part)]
    return _list(url)


def _list(url: str) -> list[RemoteFile]:
    system, path = opened(url)
    system.invalidate_cache()
    if is_pattern(path):
        entries = _only_files(system.glob(path, detail=True))
        known = {name: entry for name, entry in entries.items() if may_have_rows(within(name, path))}
        chosen, fault = known or entries, f"no file matches {url}"
    else:
        entry = system.info(path)
        if entry["type"] == "file":
            return [_file(url, entry)]
        entries = _only_files(system.find(path, detail=True))
        chosen = {name: entry for name, entry in entries.items() if may_have_rows(within(name, f"{path}/*"))}
        fault = f"{url} has no data files ({', '.join(SUFFIXES)}, also compressed)"
    if not chosen:
        raise DataError(fault)
    return [_file(_address(url, name), chosen[name]) for name in sorted(chosen)]


def _address(url: str, name: str) -> str:
    """Return the address of a file that was found below `url`; some stores name it whole."""
    return name if is_remote(name) else f"{url.partition('://')[0]}://{name.lstrip('/')}"


def _only_files(entries: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: entry for name, entry in entries.items() if entry["type"] == "file"}


def _file(url: str, entry: dict[str, Any]) -> RemoteFile:
    known = {key: entry[key] for key in _VERSION_KEYS if entry.get(key) is not None}
    times = {key: value.timestamp() for key, value in known.items() if isinstance(value, datetime)}
    said = {key: str(value) for key, value in {**known, **times}.items()}
    lfs = entry.get("lfs")
    if lfs:
        said["sha256"] = str(lfs["sha256"] if isinstance(lfs, dict) else lfs.sha256)
    content = {key: said[key] for key in ("ETag", "etag", "md5Hash", "sha256", "blob_id") if key in said}
    return RemoteFile(url, int(entry.get("size") or 0), digest(content or said))


def _of_dataset(repo: str, revision: str, query: str | None) -> list[str]:
    """Return the addresses of a split's files, as `datasets` finds them by the card or the names of files."""
    from datasets import load_dataset_builder

    asked = {key: values[-1] for key, values in parse_qs(query or "").items()}
    if unknown := asked.keys() - {"config", "split"}:
        raise DataError(f"hf://datasets/{repo}?{query}: {unknown.pop()!r} is unknown; there are config and split")
    try:
        builder = load_dataset_builder(repo, asked.get("config"), revision=revision)
    except ValueError as error:
        raise DataError(f"hf://datasets/{repo}: {error}") from error
    files, split = builder.config.data_files or {}, asked.get("split", "train")
    if split not in files:
        raise DataError(f"hf://datasets/{repo}: there is no split {split!r}; there are: {', '.join(map(str, files))}")
    return [str(file) for file in files[split]]


def _within_deadline(url: str, ask: Callable[[], _Found], *, seconds: float = DEADLINE_S) -> _Found:
    """Return the answer of a store; libraries have time limits of their own, and some have none.

    Raises DataError and Unreachable in the words of a user.
    """
    found: list[_Found] = []
    fault: list[Exception] = []

    def run() -> None:
        try:
            found.append(ask())
        except Exception as error:  # each library has errors of its own
            fault.append(error)

    thread = threading.Thread(target=run, daemon=True, name=f"ask {url[:40]}")
    thread.start()
    thread.join(seconds)
    if found:
        return found[0]
    if not fault:
        raise Unreachable(f"{url}: no answer in {seconds:.0f} s")
    raise explained(url, fault[0]) from fault[0]


def explained(url: str, error: Exception) -> DataError:
    """Return what went wrong with a store as an error of ours."""
    if isinstance(error, DataError):
        return error
    text = str(without_passwords(" ".join(str(error).split())))[:300]
    kind = type(error).__name__
    cause = error.__cause__  # of fsspec over HTTP, which calls all that fails a missing file
    if isinstance(error, FileNotFoundError) and isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
        return Unreachable(f"{url} cannot be reached: {cause}")
    if isinstance(error, FileNotFoundError) or _NOT_FOUND.search(f"{kind} {text}"):
        hint = ", or it is private and HF_TOKEN may not read it" if url.startswith("hf://") else ""
        if url.startswith("hf://") and not url.startswith(_HF_KINDS):
            hint = f" as a model of the hub. Did you mean hf://datasets/{url.removeprefix('hf://')}?"
        return DataError(f"{url} does not exist{hint}")
    if isinstance(error, PermissionError) or _NOT_ALLOWED.search(f"{kind} {text}"):
        who = "the credentials in the environment, or in the files of the store's own tools, do not allow it"
        return DataError(f"{url} cannot be read: {who} ({text or kind})")
    return Unreachable(f"{url} cannot be reached: {text or kind}")
