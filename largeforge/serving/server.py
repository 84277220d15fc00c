"""Run server processes: each under the reaper, each with its log, until ready and until the end.

Knows nothing of models; `deployment.py` says what to run and when it counts as ready.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from largeforge import reaper
from largeforge.errors import ServingError
from largeforge.serving import diagnosis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

POLL_S = 0.1
REPORT_EVERY_S = 5.0
PROBE_TIMEOUT_S = 2.0
POST_TIMEOUT_S = 30.0


class Server:
    """One server process; `title` is its name for people, `grace_s` what it may take to stop."""

    def __init__(self, title: str, argv: Sequence[str], *, log: Path, environment: Mapping[str, str], grace_s: float):
        self.title = title
        self.argv = list(argv)
        self.log = log
        self._environment = environment
        self._grace_s = grace_s
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; its output goes to the log, which is begun anew."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                reaper.command(self.argv, grace_s=self._grace_s),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._environment},
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise ServingError with the cause when the process has ended."""
        code = self._process.poll() if self._process else None
        if code is not None:
            raise ServingError(f"{self.title} {diagnosis.how_ended(code)}.\n{self.explanation(code)}")

    def explanation(self, code: int | None = None) -> str:
        """Return what the log says, what to do about it, and where the log is."""
        said = diagnosis.explain(self.read_log(), code)
        return f"{said}\nLog: {self.log}" if said else f"Log: {self.log} (empty)"

    def read_log(self) -> str:
        """Return the whole log so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def ask_to_stop(self) -> None:
        """Begin to stop; asked a second time, it is killed."""
        if self._process and self._process.poll() is None:
            self._process.terminate()

    def join(self) -> None:
        """Wait until the process and all that it started are gone."""
        if self._process is None:
            return
        try:
            self._process.wait(self._grace_s + 5)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait()


def stop(servers: Iterable[Server]) -> None:
    """Stop servers side by side; returns when nothing of them is left."""
    servers = list(servers)
    for server in servers:
        server.ask_to_stop()
    for server in servers:
        server.join()


def wait(
    readiness: Mapping[Server, Callable[[], bool]],
    *,
    timeout_s: float,
    report: Callable[[str], None],
    hint: str = "",
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Wait until every server is ready, and report progress in words.

    Raises ServingError as soon as one ends, or after `timeout_s`; `hint` then says what to change.
    """
    started = reported = clock()
    pending = dict(readiness)
    while pending:
        for server, is_ready in list(pending.items()):
            server.check()
            if is_ready():
                report(f"{server.title}: ready after {clock() - started:.0f} s")
                del pending[server]
        if pending and clock() - started > timeout_s:
            server = next(iter(pending))
            raise ServingError(f"{server.title} is not ready after {timeout_s:g} s. {hint}\n{server.explanation()}")
        if pending and clock() - reported >= REPORT_EVERY_S:
            reported = clock()
            for server in pending:
                report(f"{server.title}: loading ({reported - started:.0f} s)")
        if pending:
            time.sleep(POLL_S)


def get(port: int, path: str, *, host: str = "127.0.0.1", is_tls: bool = False) -> tuple[int, bytes] | None:
    """Return status and body of a GET, or None when nobody answers. Ignores proxies on purpose.

    With TLS it asks a process that we have started ourselves, whose certificate need not name this address.
    """
    return _request("GET", port, path, host=host, timeout_s=PROBE_TIMEOUT_S, is_tls=is_tls)


def post(
    port: int, path: str, value: Any, *, host: str = "127.0.0.1", timeout_s: float = POST_TIMEOUT_S
) -> tuple[int, bytes] | None:
    """Return status and body of the answer to a value sent as JSON, or None when nobody answers."""
    return _request("POST", port, path, host=host, timeout_s=timeout_s, body=json.dumps(value))


def _request(
    method: str, port: int, path: str, *, host: str, timeout_s: float, body: str | None = None, is_tls: bool = False
) -> tuple[int, bytes] | None:
    if is_tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection: http.client.HTTPConnection
        connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request(method, path, body, {"content-type": "application/json"} if body else {})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


@contextmanager
def reserved_ports(count: int, *, host: str = "127.0.0.1") -> Iterator[list[int]]:
    """Give distinct ports that nothing listens on, and that nobody else is given while the block lasts.

    A socket that is bound and does not listen stays at each: Linux then hands the port to nobody who asks for any,
    while a server that asks for it by number, with SO_REUSEADDR as servers do, gets it. A port that is only looked
    for is now and then given to another server too, which would be taken for the one that was meant.
    """
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for holder in sockets:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind((host, 0))
        yield [int(holder.getsockname()[1]) for holder in sockets]


def check_port(host: str, port: int) -> None:
    """Raise ServingError when the gateway could not listen there; better now than after the models have loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"another process listens on {host}:{port}"
        else:
            reason = f"cannot listen on {host}:{port}: {error.strerror or error}"
        raise ServingError(
            f"gateway.port = {port}: {reason}. `ss -ltnp 'sport = :{port}'` shows who has it; choose another with "
            "gateway.port=N (0 takes any free one)."
        ) from error
