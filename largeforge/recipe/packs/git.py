"""Git, run so that a hostile repository or server can do nothing but fail.

What is fetched goes into a bare repository of our own and is never checked out, so that no hook,
filter, attribute, link or submodule of it ever acts. The commands run without a terminal, without
the system's configuration, over https, ssh and folders only, with limits on time, memory and disk.
The user's own configuration stays: credential helpers, proxies and certificates are in it.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from largeforge import reaper
from largeforge.errors import FetchError, PackError, listed, nearest
from largeforge.recipe.packs import address

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DOWNLOAD_BYTES = 256 * 2**20
"""Largest file that git may write: the one pack file of a fetch."""
MAX_MEMORY_BYTES = 4 * 2**30
MAX_CPU_S = 120
TIMEOUT_S = 300.0
MAX_TREE_BYTES = 2**20
MAX_REFS_BYTES = 8 * 2**20

_OPTIONS = {
    "core.hooksPath": os.devnull, "core.fsmonitor": "false", "core.attributesFile": os.devnull,
    "core.bigFileThreshold": "16m", "core.alternateRefsCommand": "false", "credential.interactive": "false",
    "fetch.fsckObjects": "true", "fetch.unpackLimit": "1", "fetch.recurseSubmodules": "false",
    "submodule.recurse": "false", "gc.auto": "0", "maintenance.auto": "false", "pack.threads": "1",
    "http.lowSpeedLimit": "1000", "http.lowSpeedTime": "30", "protocol.version": "2", "protocol.allow": "never",
    "protocol.https.allow": "always", "protocol.ssh.allow": "always", "protocol.file.allow": "always",
    "filter.lfs.smudge": "", "filter.lfs.process": "", "filter.lfs.required": "false",
    "transfer.bundleURI": "false",
}  # fmt: skip

_INHERITED = re.compile(
    r"PATH|HOME|USER|LOGNAME|TMPDIR|XDG_CONFIG_HOME|SSH_AUTH_SOCK|GIT_SSH_COMMAND|GIT_SSL_CAINFO|SSL_CERT_(FILE|DIR)"
    r"|(https|all|no)_proxy",
    re.IGNORECASE,
)


def environment() -> dict[str, str]:
    """Return the variables that git gets: no more than it needs to reach a server."""
    kept = {name: value for name, value in os.environ.items() if _INHERITED.fullmatch(name)}
    return {
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        **kept,
        "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "false", "SSH_ASKPASS_REQUIRE": "never",
        "GIT_CONFIG_NOSYSTEM": "1", "GIT_ATTR_NOSYSTEM": "1", "GIT_LFS_SKIP_SMUDGE": "1", "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1", "GIT_OPTIONAL_LOCKS": "0", "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_ALLOW_PROTOCOL": ":".join(address.PROTOCOLS),
    }  # fmt: skip


class Repository:
    """A bare repository of our own in a new folder, to fetch one commit into."""

    def __init__(self, folder: Path):
        self._folder = folder
        folder.mkdir()
        self._reader: subprocess.Popen[bytes] | None = None
        self._run("init", "--quiet", "--bare", "--template=", ".")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            _end(self._reader)

    def resolve(self, url: str, rev: str) -> str:
        """Return the commit that a tag, a branch or a whole commit id means at this address; tags come first.

        Raises PackError when there is no such revision, FetchError when the repository cannot be reached.
        """
        if address.is_commit(rev):
            return rev
        refs = self._refs(url)
        for name in (f"refs/tags/{rev}^{{}}", f"refs/tags/{rev}", f"refs/heads/{rev}"):
            if name in refs:
                return refs[name]
        known = sorted({name.split("/", 2)[2] for name in refs if re.match(r"refs/(tags|heads)/[^^]+$", name)})
        hint = f" Did you mean '{nearest(rev, known)}'?" if nearest(rev, known) else ""
        whole = " A commit is given with all its 40 digits." if re.fullmatch("[0-9a-f]{4,39}", rev) else ""
        raise PackError(f"{url} has no tag or branch {rev}; there is: {listed(known)}.{whole}{hint}")

    def fetch(self, url: str, commit: str) -> None:
        """Fetch one commit without its history.

        Raises FetchError when the commit is not there (any more) or the repository cannot be reached.
        """
        try:
            self._run("fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head",
                      "--end-of-options", url, commit)  # fmt: skip
        except FetchError as error:
            if re.search(
                "not our ref|no such remote ref|couldn't find remote ref|remote error: upload-pack", str(error)
            ):
                raise FetchError(
                    f"{url} no longer has commit {commit}: its history was rewritten, or the commit was never there. "
                    "To take what the revision means now: python -m largeforge packs update NAME"
                ) from None
            raise

    def tree_of(self, commit: str) -> str:
        """Return the id of a commit's tree."""
        text = self.read(commit, "commit", MAX_TREE_BYTES)
        if not text.startswith(b"tree ") or len(text) < 45:
            raise PackError(f"{commit} is no commit")
        return text[5:45].decode("ascii", "replace")

    def entries(self, tree: str) -> Iterator[tuple[str, str, str]]:
        """Yield mode, name and object id of everything in a tree object."""
        content, start = self.read(tree, "tree", MAX_TREE_BYTES), 0
        while start < len(content):
            space, end = content.find(b" ", start), content.find(b"\0", start)
            if not start < space < end or end + 21 > len(content):
                raise PackError(f"tree {tree} is damaged")
            name = content[space + 1 : end].decode("utf-8", "surrogateescape")
            yield content[start:space].decode("ascii", "replace"), name, content[end + 1 : end + 21].hex()
            start = end + 21

    def read(self, oid: str, kind: str, max_bytes: int) -> bytes:
        """Return the content of an object.

        Raises PackError when it is of another kind or larger than `max_bytes`.
        """
        reader = self._reader or self._start_reader()
        assert reader.stdin is not None and reader.stdout is not None
        try:
            reader.stdin.write(f"{oid}\n".encode())
            reader.stdin.flush()
            header = reader.stdout.readline(200).decode("ascii", "replace").split()
            if len(header) != 3 or header[1] != kind:
                raise PackError(f"object {oid} is missing or no {kind}")
            if int(header[2]) > max_bytes:
                raise PackError(f"{kind} {oid} has {header[2]} bytes; at most {max_bytes} are read")
            content = reader.stdout.read(int(header[2]) + 1)
        except OSError:
            raise FetchError(f"git ended while {kind} {oid} was read") from None
        if len(content) != int(header[2]) + 1:
            raise FetchError(f"git ended while {kind} {oid} was read")
        return content[:-1]

    def _refs(self, url: str) -> dict[str, str]:
        text = self._run("ls-remote", "--quiet", "--tags", "--heads", "--end-of-options", url)
        pairs = (line.split("\t") for line in text.splitlines())
        return {pair[1]: pair[0] for pair in pairs if len(pair) == 2 and address.is_commit(pair[0])}

    def _start_reader(self) -> subprocess.Popen[bytes]:
        self._reader = subprocess.Popen(
            _command("cat-file", "--batch"), cwd=self._folder, env=self._environment(), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, preexec_fn=_limit,
        )  # fmt: skip
        return self._reader

    def _environment(self) -> dict[str, str]:
        return {**environment(), "GIT_DIR": str(self._folder)}

    def _run(self, *arguments: str) -> str:
        """Run git to its end and return what it printed; raises FetchError with its last words when it fails."""
        output, errors = self._folder / "lf-output", self._folder / "lf-errors"
        with output.open("wb") as stdout, errors.open("wb") as stderr:
            try:
                process = subprocess.Popen(
                    _command(*arguments), cwd=self._folder, env=self._environment(), stdin=subprocess.DEVNULL,
                    stdout=stdout, stderr=stderr, start_new_session=True, preexec_fn=_limit,
                )  # fmt: skip
            except OSError as error:
                raise FetchError(f"git cannot be started: {error.strerror}") from None
            try:
                code = process.wait(TIMEOUT_S)
            except subprocess.TimeoutExpired:
                raise FetchError(f"git {arguments[0]} took longer than {TIMEOUT_S:.0f} s") from None
            finally:
                _end(process)
        if code:
            raise FetchError(_last_words(arguments[0], code, errors))
        with output.open("rb") as stream:
            return stream.read(MAX_REFS_BYTES).decode("utf-8", "replace")


def _command(*arguments: str) -> list[str]:
    options = [word for key, value in _OPTIONS.items() for word in ("-c", f"{key}={value}")]
    return reaper.command(["git", *options, *arguments], grace_s=1)


def _limit() -> None:
    for kind, most in (
        (resource.RLIMIT_FSIZE, MAX_DOWNLOAD_BYTES),
        (resource.RLIMIT_AS, MAX_MEMORY_BYTES),
        (resource.RLIMIT_CPU, MAX_CPU_S),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def _end(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    with suppress(ProcessLookupError):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    process.wait()


def _last_words(command: str, code: int, errors: Path) -> str:
    """Return git's complaint as one short line without control characters or credentials."""
    with errors.open("rb") as stream:
        text = stream.read(20_000).decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if re.match(r"\s*(fatal|error|remote|ssh|cannot start)", line)]
    shown = address.without_credentials("; ".join(lines or text.splitlines()[-3:]))
    shown = "".join(char if char.isprintable() else " " for char in shown)[:500]
    if code == 127 and "cannot start git" in text:
        return "git is not installed: packs are fetched with it"
    if re.search(r"died of signal (25|24)|File too large|File size limit", text):
        return f"the repository is larger than {MAX_DOWNLOAD_BYTES // 2**20} MiB, or takes too long to unpack"
    return f"git {command} failed: {shown or f'exit code {code}'}"
