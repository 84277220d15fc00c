"""Build, list and remove LargeForge's environments on a host: `python3 build_environment.py < order.json`.

The order (`HostEnvironment.order`) comes on the standard input, because passwords of an index may be in it: they are
handed to pip or uv in the environment, and are in no argument, file or message. The standard output has one JSON
object a line; the last is `done` or `error`, and the exit code 0 or 1.

An environment is built where it will be used, since its scripts hold their path. It counts only once its stamp,
`environment.json`, is there, and that is written last; whatever a kill left is begun anew. A lock keeps two builds of
the same environment apart; pip inherits it, so that one whose builder was killed is waited for.

Needs Python 3.9 and nothing else. What LargeForge runs on is another Python, which the order names.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

STAMP = "environment.json"
POLL_S = 0.3
SHOWN_LINES = 12
SPARE_BYTES = 200 * 2**20
"""Left free on the disk after an environment is unpacked: compiled files, temporary ones, the system's own."""
_NOISE = re.compile(
    r"\s*(WARNING: (Location|The script|Running pip)|DEPRECATION|\[notice\]|Looking in|Collecting |Processing |"
    r"Downloading |Using cached |Installing collected |$)"
)
_IN_ADDRESS = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/@\s'\"]+@", re.IGNORECASE)
_VERIFY = """
import json, re, sys
from importlib import metadata
from packaging.requirements import Requirement
from packaging.version import Version
found, problems, wanted = {}, [], set()
for line in json.load(sys.stdin):
    requirement = Requirement(line)
    if requirement.marker is not None and not requirement.marker.evaluate():
        continue
    try:
        distribution = metadata.distribution(requirement.name)
    except metadata.PackageNotFoundError:
        problems.append(f"{requirement.name} is not there")
        continue
    pinned = re.sub(r"^=+", "", str(requirement.specifier))
    if Version(distribution.version) != Version(pinned):
        problems.append(f"{requirement.name} is {distribution.version}, and {pinned} is pinned")
    found[requirement.name] = [distribution.version, distribution._path.name]
print(json.dumps({"packages": found, "problems": problems}))
"""
"""Runs in the new environment, which always has `packaging`."""


class Refused(Exception):
    """The order cannot be carried out; the message is for people."""


class Stopped(BaseException):
    """A signal asked for the end."""


def main() -> int:
    """Carry out the order on the standard input."""
    os.umask(0o022)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _stop)
    order: dict[str, Any] = {}
    try:
        order = json.load(sys.stdin)
        {"build": build, "list": show, "remove_unused": remove_unused}[order.get("action", "build")](order)
        return 0
    except Refused as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename or order.get('root', '')}: {error.strerror or error}"
    except (ValueError, KeyError, TypeError) as error:
        message = f"the order is not understood: {error!r}"
    except Stopped:
        message = "stopped by a signal; nothing was left behind"
    tell(event="error", message=clean(message, order))
    return 1


def tell(**fields: Any) -> None:
    """Write one line; that nobody reads any more stops nothing, the next caller finds what was built."""
    with contextlib.suppress(OSError, ValueError):
        print(json.dumps(fields), flush=True)


def build(order: dict[str, Any]) -> None:
    """Build an environment, unless it is there."""
    root = Path(order["root"])
    folder = root / order["key"]
    stamp = intact(folder)
    if stamp is None:
        root.mkdir(parents=True, exist_ok=True)
        with alone(root / f".{order['key']}.lock") as lock:
            stamp = intact(folder)
            if stamp is None:
                done(folder, make(order, folder, lock), built=True)
                return
    done(folder, stamp, built=False)


def done(folder: Path, stamp: dict[str, Any], *, built: bool) -> None:
    """Say that an environment is ready."""
    tell(
        event="done", built=built, key=folder.name, folder=str(folder), python=str(folder / "bin" / "python"),
        packages=len(stamp["packages"]), size_bytes=stamp["size_bytes"], seconds=stamp["seconds"] if built else 0.0,
    )  # fmt: skip


def intact(folder: Path) -> dict[str, Any] | None:
    """Return the stamp of an environment whose Python and packages are all there; None for anything else.

    Looks at one folder and no file in it, so that it takes milliseconds.
    """
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        there = {path.name for path in (folder / stamp["site"]).iterdir()}
        whole = there.issuperset(info for _, info in stamp["packages"].values())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return stamp if whole and os.access(folder / "bin" / "python", os.X_OK) else None


@contextlib.contextmanager
def alone(path: Path) -> Iterator[int]:
    """Hold a lock; says so when another build has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(event="waiting", message="another build of this environment goes on")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def make(order: dict[str, Any], folder: Path, lock: int) -> dict[str, Any]:
    """Build an environment from nothing; a failure leaves nothing."""
    started = time.monotonic()
    python = interpreter(order)
    check_machine(order)
    check_wheels(order)
    check_room(order)
    remove(folder)
    tell(event="creating", folder=str(folder), interpreter=python)
    try:
        folder.mkdir()
        temporary = folder / "tmp"  # on the disk that has room: /tmp may be small
        temporary.mkdir()
        run_quietly([python, "-I", "-m", "venv", "--without-pip", str(folder)], "cannot make a virtual environment")
        site = next(folder.glob("lib/python*/site-packages"))
        tool = install(order, folder, site, lock, python)
        packages = verify(order, folder)
        shutil.rmtree(temporary)
        tell(event="compiling")
        argv = [str(folder / "bin" / "python"), "-I", "-m", "compileall", "-q", "-j", "0", "-x", "/tests?/", str(site)]
        subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # templates are no valid Python
        stamp = {
            "key": folder.name, "python": order["python"], "interpreter": python, "installer": tool,
            "site": str(site.relative_to(folder)), "packages": packages, "size_bytes": size_bytes(folder),
            "built": time.time(), "seconds": round(time.monotonic() - started, 1),
        }  # fmt: skip
        seal(folder, stamp)
        return stamp
    except BaseException:
        remove(folder)
        raise


def seal(folder: Path, stamp: dict[str, Any]) -> None:
    """Write the stamp, after everything else is on the disk."""
    os.sync()
    aside = folder / f".{STAMP}"
    with aside.open("w", encoding="utf-8") as stream:
        json.dump(stamp, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(folder / STAMP)


def interpreter(order: dict[str, Any]) -> str:
    """Return the path of a Python of the wanted version; symbolic links are followed, since they may move on."""
    wanted, seen = order["python"], []
    for name in [order["interpreter"]] if order.get("interpreter") else [f"python{wanted}", "python3", sys.executable]:
        path = shutil.which(name)
        version = version_of(path) if path else ""
        if path and version == wanted:
            return os.path.realpath(path)
        seen.append(f"{name} is {('Python ' + version) if version else 'not there'}")
    hint = f"install it (Debian: apt install python{wanted}), or name another interpreter"
    raise Refused(f"there is no Python {wanted} on this host ({', '.join(seen)}): {hint}")


def version_of(path: str) -> str:
    """Return major and minor version of a Python, empty when it does not run."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        ended = subprocess.run([path, "-I", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout.decode(errors="replace").strip() if ended.returncode == 0 else ""


def check_machine(order: dict[str, Any]) -> None:
    """Refuse wheels that were made for another processor."""
    if order.get("machine") and order["machine"] != platform.machine():
        raise Refused(f"the bundle is for {order['machine']}, and this host is {platform.machine()}")


def check_wheels(order: dict[str, Any]) -> None:
    """Refuse wheels that are missing or whose hash is another, all of them at once."""
    import hashlib  # here and below: most orders find everything built, and are answered without these
    from concurrent.futures import ThreadPoolExecutor

    wheels = order.get("wheels", [])
    tell(event="checking", of=len(wheels))

    def look(wheel: dict[str, str]) -> str:
        try:
            hashed = hashlib.sha256()
            with Path(wheel["path"]).open("rb") as stream:
                for block in iter(lambda: stream.read(1 << 20), b""):
                    hashed.update(block)
        except OSError as error:
            return f"{wheel['path']}: {error.strerror}"
        return "" if hashed.hexdigest() == wheel["sha256"] else f"{wheel['path']} is damaged: its sha256 is another"

    with ThreadPoolExecutor(4) as pool:
        wrong = [problem for problem in pool.map(look, wheels) if problem]
    if wrong:
        lines = "\n".join(f"  {line}" for line in wrong[:SHOWN_LINES])
        raise Refused(f"{len(wrong)} of {len(wheels)} wheels cannot be used; bring them again:\n{lines}")


def check_room(order: dict[str, Any]) -> None:
    """Refuse what would fill the disk, as far as it is known beforehand."""
    import zipfile

    needed = 0
    for wheel in order.get("wheels", []):
        try:
            with zipfile.ZipFile(wheel["path"]) as archive:
                needed += sum(entry.file_size for entry in archive.infolist())
        except zipfile.BadZipFile as error:
            raise Refused(f"{wheel['path']}: {error}") from None
    free = shutil.disk_usage(order["root"]).free
    if needed + SPARE_BYTES > free:
        gib = [f"{value / 2**30:.1f} GiB" for value in (needed + SPARE_BYTES, free)]
        raise Refused(f"{order['root']}: the environment needs {gib[0]} of disk, and {gib[1]} are free")


def install(order: dict[str, Any], folder: Path, site: Path, lock: int, python: str) -> str:
    """Install exactly the pinned packages; return what did it."""
    wanted = folder / "tmp" / "requirements.txt"
    given = {normal(wheel["name"]): wheel["path"] for wheel in order.get("wheels", [])}
    lines = [given.pop(name_of(line), "" if order.get("offline") else line) for line in order["pins"]]
    lines = [line for line in lines if line]  # offline: a marker of another machine left its wheel out
    wanted.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    tool, argv = installer(order, folder)
    argv += ["install", "--no-deps", *(["--no-index"] if order.get("offline") else []), "-r", str(wanted)]
    words: deque[str] = deque(maxlen=200)
    fetched: list[str] = []
    with subprocess.Popen(
        argv if tool == "pip" else [*argv, "--python", str(folder / "bin" / "python")],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ(order, folder),
        pass_fds=(lock,), preexec_fn=_die_with_parent(), start_new_session=True, text=True, errors="replace",
    ) as process:  # fmt: skip
        reader = threading.Thread(target=_read, args=(process.stdout, words, fetched), daemon=True)
        reader.start()
        try:
            code = _follow(process, site, len(lines), fetched)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
        reader.join()
    if code:
        said = [line for line in words if not _NOISE.match(line)][-SHOWN_LINES:]
        text = "\n".join(f"  {line.rstrip()}" for line in said)
        raise Refused(f"{tool} ended with {code}{_disk(words, order)}:\n{text}")
    return tool


def installer(order: dict[str, Any], folder: Path) -> tuple[str, list[str]]:
    """Return what installs, `uv` or `pip`, with the first words of its command line.

    uv knows nothing of the host's configuration of pip, so it is taken only where that is of no matter.
    """
    python, choice = str(folder / "bin" / "python"), order.get("installer", "auto")
    uv = shutil.which("uv")
    if choice == "uv" and not uv:
        raise Refused("uv was asked for, and it is not on this host")
    if uv and (choice == "uv" or (choice == "auto" and (order.get("offline") or order.get("index_url")))):
        return "uv", [uv, "pip"]
    options = ["--no-input", "--disable-pip-version-check", "--no-color"]
    if order.get("pip"):
        return "pip", [python, "-I", order["pip"] + "/pip", *options]
    why = "there is neither uv nor a bundle with pip on this host, and its Python cannot make pip"
    run_quietly([python, "-I", "-m", "ensurepip"], f"{why} (Debian: apt install python{order['python']}-venv)")
    return "pip", [python, "-I", "-m", "pip", *options]


def environ(order: dict[str, Any], folder: Path) -> dict[str, str]:
    """Return the environment of pip or uv: the only place where passwords of an index are."""
    offline = bool(order.get("offline"))
    kept = {k: v for k, v in os.environ.items() if not (offline and k.startswith(("PIP_", "UV_")))}
    cache = folder.parent / ".cache"  # on the same disk, so that uv can link out of it
    kept.update(
        PIP_CACHE_DIR=str(cache / "pip"), UV_CACHE_DIR=str(cache / "uv"), TMPDIR=str(folder / "tmp"), PIP_USER="0",
        PIP_REQUIRE_VIRTUALENV="0", PIP_NO_COMPILE="1", PIP_PROGRESS_BAR="off", UV_NO_PROGRESS="1",
        UV_PYTHON_DOWNLOADS="never", PIP_NO_WARN_SCRIPT_LOCATION="1",
    )  # fmt: skip
    if offline:
        kept.update(PIP_CONFIG_FILE=os.devnull, PIP_NO_CACHE_DIR="1", UV_NO_CONFIG="1", UV_OFFLINE="1")
    if order.get("index_url"):
        kept.update(PIP_INDEX_URL=order["index_url"], UV_DEFAULT_INDEX=order["index_url"])
        if order["index_url"].startswith("http://"):  # asked for in so many words
            place = order["index_url"].partition("://")[2].partition("/")[0].rpartition("@")[2]
            kept.update(PIP_TRUSTED_HOST=place, UV_INSECURE_HOST=place)
    if order.get("extra_index_urls"):
        extra = " ".join(order["extra_index_urls"])
        kept.update(PIP_EXTRA_INDEX_URL=extra, UV_INDEX=extra, UV_INDEX_STRATEGY="unsafe-best-match")
    if order.get("proxy"):
        kept.update(dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), order["proxy"]))
    return kept


def verify(order: dict[str, Any], folder: Path) -> dict[str, list[str]]:
    """Return name → version and folder of what is installed, which must be what is pinned."""
    ended = subprocess.run(
        [str(folder / "bin" / "python"), "-I", "-c", _VERIFY], input=json.dumps(order["pins"]),
        capture_output=True, text=True,
    )  # fmt: skip
    if ended.returncode:
        raise Refused(f"the new environment does not work:\n{ended.stderr.strip()[-600:]}")
    found: dict[str, Any] = json.loads(ended.stdout)
    if found["problems"]:
        raise Refused("the environment is not what is pinned:\n" + "\n".join(f"  {line}" for line in found["problems"]))
    packages: dict[str, list[str]] = found["packages"]
    return packages


def show(order: dict[str, Any]) -> None:
    """Tell which environments are there, also those that were not finished."""
    found = []
    for folder in environments(Path(order["root"])):
        stamp = intact(folder)
        facts = {name: stamp[name] for name in ("size_bytes", "built", "python", "installer")} if stamp else {}
        found.append(
            {"key": folder.name, "intact": bool(stamp), "packages": len(stamp["packages"]) if stamp else 0, **facts}
        )
    tell(event="done", environments=found)


def remove_unused(order: dict[str, Any]) -> None:
    """Remove every environment that is neither named in `keep`, nor being built, nor run from.

    With `cache`, also what pip and uv keep of their downloads.
    """
    root, removed, kept = Path(order["root"]), [], {}
    busy = run_from(root)
    for folder in environments(root):
        if folder.name in order["keep"]:
            kept[folder.name] = "in use"
            continue
        if folder.name in busy:
            kept[folder.name] = f"process {busy[folder.name]} runs from it"
            continue
        descriptor = os.open(root / f".{folder.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(folder)
            removed.append(folder.name)
        except BlockingIOError:
            kept[folder.name] = "being built"
        finally:
            os.close(descriptor)
    if order.get("cache"):
        shutil.rmtree(root / ".cache", ignore_errors=True)
    tell(event="done", removed=removed, kept=kept)


def environments(root: Path) -> list[Path]:
    """Return the folders of all environments."""
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def run_from(root: Path) -> dict[str, int]:
    """Return the key of each environment that a process of this host was started from, with its id."""
    found: dict[str, int] = {}
    here = os.fsencode(str(root)) + b"/"
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            for word in path.read_bytes().split(b"\0")[:2]:
                if word.startswith(here):
                    found[os.fsdecode(word[len(here) :].split(b"/")[0])] = int(path.parent.name)
    return found


def remove(folder: Path) -> None:
    """Take a folder away; from the first moment on it does not count as an environment."""
    with contextlib.suppress(FileNotFoundError):
        (folder / STAMP).unlink()
    if folder.exists():
        shutil.rmtree(folder)


def size_bytes(folder: Path) -> int:
    """Return what a folder takes on the disk."""
    return sum(path.lstat().st_size for path in folder.rglob("*"))


def run_quietly(argv: list[str], what: str) -> None:
    """Run a command that should say nothing; raises Refused with its last words."""
    ended = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ended.returncode:
        raise Refused(f"{what}:\n  {ended.stdout.strip()[-600:]}")


def name_of(line: str) -> str:
    """Return the package of a pinned line."""
    return normal(re.split(r"[=\s;@]", line.strip(), maxsplit=1)[0])


def normal(name: str) -> str:
    """Return a package's name as the package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def clean(text: str, order: dict[str, Any]) -> str:
    """Return text without the passwords of the order, nor those in any other address."""
    from urllib.parse import unquote, urlsplit

    for url in [order.get("index_url", ""), *order.get("extra_index_urls", []), order.get("proxy", "")]:
        parts = urlsplit(url) if url else None
        for secret in (parts.password, parts.username) if parts else ():
            for form in {secret, unquote(secret)} if secret else set():
                text = text.replace(form, "***") if len(form) > 3 else text
    return _IN_ADDRESS.sub(r"\1", text)


def _disk(words: deque[str], order: dict[str, Any]) -> str:
    full = any("No space left" in line or "os error 28" in line for line in words)
    return f", because the disk of {order['root']} is full" if full else ""


def _follow(process: Any, site: Path, total: int, fetched: list[str]) -> int:
    """Wait for pip or uv and tell how far it is: what it has fetched, then what it has installed."""
    told = (-1, -1)
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_S)
        there = sum(name.endswith(".dist-info") for name in os.listdir(site))  # noqa: PTH208 - names are enough
        now = (len(fetched), there)
        if now != told:
            told = now
            step = "installing" if there else "fetching"
            tell(event=step, package=min(there or len(fetched), total), of=total)
        if process.returncode is not None:
            return int(process.returncode)


def _read(stream: Any, words: deque[str], fetched: list[str]) -> None:
    for line in stream:
        words.append(line)
        if line.startswith(("Collecting ", "Processing ")):
            fetched.append(line)


def _die_with_parent() -> Callable[[], None]:
    """Return what lets a child end with the builder, should that be killed (PR_SET_PDEATHSIG of Linux)."""
    import ctypes

    prctl = ctypes.CDLL(None).prctl

    def before_it_runs() -> None:
        prctl(1, signal.SIGKILL)

    return before_it_runs


def _stop(number: int, _: Any) -> None:
    raise Stopped(number)


if __name__ == "__main__":
    sys.exit(main())
