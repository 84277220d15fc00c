"""The file that builds on a host, run as there: by another process, with an order on its standard input."""

from __future__ import annotations

import ast
import base64
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pip
import pytest

from largeforge.hostenv import remote
from largeforge.hostenv.remote import build_environment
from tests.e2e.workspace import wait_for
from tests.hostenv import wheels

FILE = Path(build_environment.__file__)
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
STALLED = "import pathlib, time; pathlib.Path({mark!r}).touch(); time.sleep(600)"
"""A pip that says that it was started and does not end."""


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of wheels: two small packages, and `packaging`, which every environment has; and pip."""
    folder = tmp_path_factory.mktemp("house")
    wheels.write(folder, "lf_probe", "1.0", "def main(): print('probed')", scripts="lf-probe = lf_probe:main")
    wheels.write(folder, "lf_other", "2.0")
    wheels.installed(folder, "packaging")
    shutil.copytree(Path(pip.__file__).parent, folder / "unpacked" / "pip")  # a wheel of it takes longer to start
    return folder


@pytest.fixture
def order(house: Path, tmp_path: Path) -> dict[str, Any]:
    """An order for an environment of the three packages, without an index."""
    return an_order(house, tmp_path / "environments")


def an_order(house: Path, root: Path) -> dict[str, Any]:
    files = sorted(house.glob("*.whl"))
    pinned = {path.name.split("-")[0]: path.name.split("-")[1] for path in files}
    given = [{"name": path.name.split("-")[0], "path": str(path), "sha256": wheels.sha256(path)} for path in files]
    return {
        "action": "build", "root": str(root), "key": "abc", "python": PYTHON, "interpreter": sys.executable,
        "pins": [*(f"{name}=={version}" for name, version in pinned.items()), 'gone==1 ; platform_machine == "none"'],
        "wheels": given, "offline": True, "installer": "pip", "pip": str(house / "unpacked"),
    }  # fmt: skip


def start(order: dict[str, Any], **environment: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-I", str(FILE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env={**os.environ, **environment},
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(json.dumps(order))
    process.stdin.close()
    process.stdin = None
    return process


def carry_out(order: dict[str, Any], **environment: str) -> list[dict[str, Any]]:
    """Return all lines that it wrote."""
    said = start(order, **environment).communicate(timeout=120)[0]
    return [json.loads(line) for line in said.splitlines()]


def left(order: dict[str, Any]) -> list[str]:
    """Return what is below the root, but for locks."""
    root = Path(order["root"])
    return [path.name for path in root.iterdir() if path.suffix != ".lock"] if root.is_dir() else []


def test_what_is_pinned_is_installed_and_found_again_at_once(order: dict[str, Any]) -> None:
    lines = carry_out(order)
    done = lines[-1]
    assert (done["event"], done["built"], done["packages"]) == ("done", True, 3)
    assert [line for line in lines if line.get("package") == 3 and line["of"] == 3]
    script = Path(done["folder"]) / "bin" / "lf-probe"
    assert subprocess.run([script], capture_output=True, text=True, check=True).stdout == "probed\n"
    names = subprocess.run(
        [done["python"], "-c", "import importlib.metadata as m; print(sorted(d.name for d in m.distributions()))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert names.stdout.strip() == "['lf-other', 'lf-probe', 'packaging']"
    (again,) = carry_out(order)
    assert again["built"] is False and again["python"] == done["python"]


def test_what_lost_a_package_is_built_anew(order: dict[str, Any]) -> None:
    folder = Path(carry_out(order)[-1]["folder"])
    shutil.rmtree(next(folder.glob("lib/*/site-packages/lf_other-2.0.dist-info")))
    assert carry_out(order)[-1]["built"] is True
    (folder / "bin" / "python").unlink()
    assert build_environment.intact(folder) is None


def test_a_killed_build_leaves_nothing_running_and_is_begun_anew(order: dict[str, Any], tmp_path: Path) -> None:
    stalled = tmp_path / "stalled"
    (stalled / "pip").mkdir(parents=True)
    mark = tmp_path / "started"
    (stalled / "pip" / "__main__.py").write_text(STALLED.format(mark=str(mark)))
    process = start({**order, "pip": str(stalled)})
    wait_for(mark.exists)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert left(order) == ["abc"]
    assert build_environment.intact(Path(order["root"]) / "abc") is None
    started = time.monotonic()
    assert carry_out(order)[-1]["built"] is True  # the lock is free: the stalled pip died with its builder
    assert time.monotonic() - started < 60


def test_a_build_that_is_told_to_stop_leaves_nothing(order: dict[str, Any], tmp_path: Path) -> None:
    stalled = tmp_path / "stalled"
    (stalled / "pip").mkdir(parents=True)
    (stalled / "pip" / "__main__.py").write_text(STALLED.format(mark=str(tmp_path / "started")))
    process = start({**order, "pip": str(stalled)})
    wait_for((tmp_path / "started").exists)
    process.terminate()
    said = process.communicate(timeout=60)[0]
    assert "stopped by a signal" in said
    assert left(order) == []


def test_of_two_builders_one_builds(order: dict[str, Any]) -> None:
    both = [start(order) for _ in range(2)]
    ends = [[json.loads(line) for line in process.communicate(timeout=120)[0].splitlines()] for process in both]
    assert sorted(lines[-1]["built"] for lines in ends) == [False, True]
    assert [line for lines in ends for line in lines if line["event"] == "waiting"]


def test_damaged_and_missing_wheels_are_named_all_at_once(order: dict[str, Any], house: Path, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    shutil.copytree(house, copies)
    order = an_order(copies, tmp_path / "environments")
    (damaged,) = copies.glob("lf_probe*")
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    (missing,) = copies.glob("lf_other*")
    missing.unlink()
    message = carry_out(order)[-1]["message"]
    assert "2 of 3 wheels cannot be used" in message
    assert f"{damaged} is damaged" in message and f"{missing}: No such file" in message
    assert left(order) == []


def test_a_package_without_a_wheel_is_named(order: dict[str, Any]) -> None:
    order["pins"].append("lf-gone==1.0")
    last = carry_out(order)[-1]
    assert last["event"] == "error" and "lf-gone is not there" in last["message"]
    assert left(order) == []


def test_a_wheel_of_another_version_is_not_taken_for_the_pinned_one(order: dict[str, Any]) -> None:
    order["pins"] = [line.replace("lf_other==2.0", "lf_other==2.1") for line in order["pins"]]
    assert "lf_other is 2.0, and 2.1 is pinned" in carry_out(order)[-1]["message"]


def test_wheels_for_another_processor_are_refused(order: dict[str, Any]) -> None:
    assert "the bundle is for riscv64" in carry_out({**order, "machine": "riscv64"})[-1]["message"]


def test_what_pip_refuses_is_told_in_its_words(order: dict[str, Any], tmp_path: Path) -> None:
    alien = wheels.write(tmp_path, "lf_alien", "1.0", tag="cp27-cp27m-win32")
    order["wheels"].append({"name": "lf_alien", "path": str(alien), "sha256": wheels.sha256(alien)})
    order["pins"].append("lf-alien==1.0")
    message = carry_out(order)[-1]["message"]
    assert "pip ended with 1" in message and "lf_alien-1.0-cp27-cp27m-win32.whl is not a supported wheel" in message
    assert "Processing" not in message
    assert left(order) == []


def test_a_python_that_is_not_there_is_named_with_a_cure(order: dict[str, Any]) -> None:
    message = carry_out({**order, "python": "3.99", "interpreter": ""})[-1]["message"]
    assert "no Python 3.99 on this host (python3.99 is not there, python3 is Python 3." in message
    assert "apt install python3.99" in message


def test_a_disk_without_room_is_found_before_anything_is_written(
    order: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100 * 2**20))
    with pytest.raises(build_environment.Refused, match=r"needs 0\.2 GiB of disk, and 0\.1 GiB are free"):
        build_environment.build(order)
    assert left(order) == []


def test_an_order_that_is_none_is_refused() -> None:
    assert "not understood" in carry_out({"action": "build"})[-1]["message"]
    assert "not understood" in carry_out({"action": "burn"})[-1]["message"]


class Index(http.server.BaseHTTPRequestHandler):
    """A package index that wants a password."""

    house: Path

    def do_GET(self) -> None:
        wanted = "Basic " + base64.b64encode(b"deploy:hunter2secret").decode()
        name = self.path.strip("/").split("/")[-1]
        if self.headers["authorization"] != wanted:
            self.send_response(401)
            self.send_header("www-authenticate", 'Basic realm="x"')
            self.end_headers()
            return
        found = [path for path in self.house.glob("*.whl") if path.name == name]
        listed = [path.name for path in self.house.glob("*.whl") if path.name.split("-")[0].replace("_", "-") == name]
        links = "".join(f'<a href="/files/{file}">{file}</a>' for file in listed)
        body = found[0].read_bytes() if found else links.encode()
        self.send_response(200 if found or listed else 404)
        self.send_header("content-type", "application/zip" if found else "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def index(house: Path) -> Iterator[str]:
    """Address of an index with its password."""
    handler = type("Handler", (Index,), {"house": house})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://deploy:hunter2secret@127.0.0.1:{server.server_port}/simple"
        server.shutdown()


def test_the_password_of_an_index_is_used_and_written_nowhere(
    order: dict[str, Any], index: str, tmp_path: Path
) -> None:
    quiet = {"PIP_NO_CACHE_DIR": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PIP_RETRIES": "0"}
    online = {**order, "wheels": [], "offline": False, "index_url": index}
    done = carry_out(online, **quiet)
    assert done[-1]["event"] == "done", done
    refused = carry_out({**online, "key": "other", "pins": ["lf-gone==1.0"]}, **quiet)
    assert "lf-gone==1.0" in refused[-1]["message"]
    assert "hunter2" not in json.dumps([done, refused])
    texts = [path.read_bytes() for path in Path(order["root"]).rglob("*") if path.is_file()]
    assert texts and not [text for text in texts if b"hunter2" in text]


def test_a_password_is_in_no_argument(order: dict[str, Any], tmp_path: Path) -> None:
    spy = tmp_path / "spy"
    (spy / "pip").mkdir(parents=True)
    seen = tmp_path / "seen.json"
    (spy / "pip" / "__main__.py").write_text(
        f"import json, os, sys; json.dump([sys.argv, os.environ['PIP_INDEX_URL'], os.environ['HTTPS_PROXY']], "
        f"open({str(seen)!r}, 'w')); print('ERROR: http://deploy:hunter2secret@h/simple, hunter2secret'); sys.exit(1)"
    )
    secret = {"index_url": "https://deploy:hunter2secret@h/simple", "proxy": "http://me:hunter2proxy@p:3128"}
    message = carry_out({**order, **secret, "offline": False, "pip": str(spy)})[-1]["message"]
    assert "ERROR: http://h/simple, ***" in message
    argv, url, proxy = json.loads(seen.read_text())
    assert "hunter2" not in " ".join(argv)
    assert (url, proxy) == (secret["index_url"], secret["proxy"])


def test_environments_are_listed_and_those_that_nothing_uses_removed(order: dict[str, Any]) -> None:
    root = Path(order["root"])
    python = carry_out(order)[-1]["python"]
    for key in ("kept", "unused"):
        shutil.copytree(root / "abc", root / key, symlinks=True)
    (root / "unfinished").mkdir()
    listed = {found["key"]: found["intact"] for found in carry_out({**order, "action": "list"})[-1]["environments"]}
    assert listed == {"abc": True, "kept": True, "unused": True, "unfinished": False}
    with subprocess.Popen([python, "-c", "input()"], stdin=subprocess.PIPE) as process:
        done = carry_out({**order, "action": "remove_unused", "keep": ["kept"]})[-1]
        process.kill()
    assert done["removed"] == ["unfinished", "unused"]
    assert done["kept"]["abc"].endswith("runs from it") and done["kept"]["kept"] == "in use"
    assert sorted(left(order)) == ["abc", "kept"]


def test_an_environment_that_is_being_built_is_not_removed(order: dict[str, Any]) -> None:
    carry_out(order)
    with build_environment.alone(Path(order["root"]) / ".abc.lock"):
        done = carry_out({**order, "action": "remove_unused", "keep": []})[-1]
    assert (done["removed"], done["kept"]) == ([], {"abc": "being built"})


def test_it_needs_only_an_old_python_and_its_library() -> None:
    tree = ast.parse(remote.source(), feature_version=(3, 9))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names
