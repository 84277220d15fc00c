"""Servers for tests of the registry: MLflow's own, on a free port."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.e2e.workspace import wait_for
from tests.ports import free_port


@contextmanager
def mlflow_server(
    home: Path, backend: str, files: str, environment: Mapping[str, str] | None = None, *, workers: int = 1
) -> Iterator[str]:
    """Run `mlflow server` and give its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", str(workers), "--backend-store-uri", backend, "--artifacts-destination", files]
    quiet = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", **(environment or {})}
    with (home / "log.txt").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=home, env=quiet, start_new_session=True)
    try:
        wait_for(lambda: _answers(url) or process.poll() is not None, timeout_s=180)
        assert process.poll() is None, f"mlflow server did not start:\n{(home / 'log.txt').read_text()[-3000:]}"
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # it would wait for connections that clients keep open
        process.wait(20)


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=2):
        return True
    return False
