"""A real PostgreSQL, Debian's, in a folder of its own, on the loopback, as a user that is not root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.workspace import wait_for
from tests.ports import free_port


@contextmanager
def postgres() -> Iterator[str]:
    """Start a server with an empty database `mlflow`, and give its address for SQLAlchemy."""
    folder = Path(tempfile.mkdtemp(prefix="lf-postgres-"))
    user: dict[str, Any] = {}
    if os.geteuid() == 0:  # it refuses to run as root
        found = pwd.getpwnam("postgres")
        user = {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
        os.chown(folder, found.pw_uid, found.pw_gid)
    data, port = folder / "data", free_port()
    words = ["--auth=trust", "--username=mlflow", "--encoding=UTF8", "--locale=C", "--no-sync"]
    subprocess.run([_program("initdb"), "-D", str(data), *words], check=True, capture_output=True, cwd=folder, **user)
    command = [_program("postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", str(folder)]
    with (folder / "log.txt").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **user)
    try:
        ready = [_program("pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-q"]
        wait_for(lambda: server.poll() is not None or not subprocess.run(ready).returncode, timeout_s=60)
        assert server.poll() is None, (folder / "log.txt").read_text()
        options = ["-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow"]
        subprocess.run([_program("createdb"), *options], check=True, capture_output=True)
        yield f"postgresql://mlflow@127.0.0.1:{port}/mlflow"
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> str:
    """Return the newest installed program; Debian keeps those of the server out of PATH."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    found = str(installed[-1]) if installed else shutil.which(name)
    assert found, f"{name} of PostgreSQL is not installed"
    return found
