"""pyinfra in a process of its own: `python -m largeforge.deploy.child`, orders in and events out as JSON lines.

The first line says which hosts there are and how they are reached. Then come orders, one at a time:

    {"do": "look", "request": {host: …}}     describe hosts (`remote/look.py`)
    {"do": "apply", "steps": {host: […]}, "dry": false}     bring hosts to what steps say, once

Everything about one host is told as it happens; each order ends with a `done` event. pyinfra works on hosts side by
side only when gevent has replaced the standard library's blocking calls, which is why this is not the caller's
process.
"""

from importlib import metadata

# At each of its patches gevent looks for plugins in all installed packages.
metadata.entry_points = lambda **_: metadata.EntryPoints()  # type: ignore[assignment]

from gevent import monkey  # noqa: E402

monkey.patch_all()

import json  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
from pyinfra.api import Config, State  # noqa: E402
from pyinfra.api import operations as pyinfra_operations  # noqa: E402
from pyinfra.api.exceptions import ConnectError, PyinfraError  # noqa: E402
from pyinfra.api.host import Host  # noqa: E402
from pyinfra.api.inventory import Inventory  # noqa: E402
from pyinfra.api.operation import add_op  # noqa: E402
from pyinfra.api.state import StateStage  # noqa: E402
from pyinfra.connectors.ssh import SSHConnector  # noqa: E402
from pyinfra.context import ctx_host, ctx_state  # noqa: E402

from largeforge.deploy import operations, remote_python, wire  # noqa: E402

SOCKET_SILENCE_MS = 20_000
"""A connection that acknowledges nothing for so long is given up by the kernel (TCP_USER_TIMEOUT)."""
ALIVE_EVERY_S = 5
COMMAND_TIMEOUT_S = 1800
"""Longest command; building an environment takes minutes."""
LOOK_TIMEOUT_S = 60


class Child:
    """The hosts, connected, and what was found on them."""

    def __init__(self, opening: dict[str, Any], out: Any):
        self._out = out
        hosts = [(host["name"], {**host["data"], "_name": host["name"]}) for host in opening["hosts"]]
        config = Config(CONNECT_TIMEOUT=opening["connect_timeout_s"], PARALLEL=opening["parallel"])
        self._state = State(_Reached((hosts, {})), config)
        self._passwords = opening.get("passwords", {})
        self._failed: dict[str, str] = {}
        self._found: dict[str, dict[str, Any]] = {}

    def connect(self) -> None:
        """Connect to all hosts side by side; those that cannot be reached are told."""
        self._state.set_stage(StateStage.Connect)
        self._side_by_side(list(self._state.inventory), self._connect)

    def look(self, requests: dict[str, Any]) -> None:
        """Describe the hosts that are connected."""
        self._state.set_stage(StateStage.Prepare)
        self._side_by_side([host for host in self._hosts() if name_of(host) in requests], self._look, requests)

    def apply(self, steps: dict[str, list[dict[str, Any]]], *, dry: bool) -> None:
        """Prepare the steps of each host as pyinfra's operations; unless `dry`, carry out those that change it."""
        self._state.set_stage(StateStage.Prepare)
        wanted = {name: wire.decoded(given) for name, given in steps.items()}
        hosts = [host for host in self._hosts() if name_of(host) in wanted and name_of(host) in self._found]
        ctx_state.set(self._state)
        for host in hosts:
            for step in wanted[name_of(host)]:
                add_op(
                    self._state, operations.bring, step=step, found=self._found[name_of(host)]["state"], host=host,
                    name=step.title, _timeout=COMMAND_TIMEOUT_S, **self._authority(host),
                )  # fmt: skip
            self._tell_plan(host, wanted[name_of(host)])
        if not dry:
            self._state.set_stage(StateStage.Execute)
            self._state.is_executing = True
            self._side_by_side(hosts, self._carry_out, wanted)

    def _connect(self, host: Host) -> None:
        try:
            host.connect(raise_exceptions=True, show_errors=False)
        except ConnectError as error:
            self._fail(host, str(error), when="connect")
            return
        transport = host.connector.client.get_transport()
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SOCKET_SILENCE_MS)
        transport.set_keepalive(ALIVE_EVERY_S)
        self._state.activate_host(host)
        self._tell("connected", host)

    def _look(self, host: Host, requests: dict[str, Any]) -> None:
        command = remote_python.line("look", json.dumps(requests[name_of(host)]))
        started = time.time()
        with ctx_host.use(host):
            good, output = host.run_shell_command(command, _timeout=LOOK_TIMEOUT_S, **self._authority(host))
        lines = output.stdout_lines
        if not good or not lines:
            self._fail(host, _reason(output.stderr_lines or lines), when="look")
            return
        found = json.loads(lines[-1])
        found["machine"]["clock_ahead_s"] = round(found["machine"].pop("time") - (started + time.time()) / 2, 3)
        found["machine"]["answered_s"] = round(time.time() - started, 3)
        self._found[name_of(host)] = found
        self._tell("look", host, found=found)

    def _tell_plan(self, host: Host, steps: list[Any]) -> None:
        metas = [self._state.ops[host][key].operation_meta for key in host.op_hash_order]
        found = self._found[name_of(host)]["state"]
        changing = [
            {"title": step.title, "reason": step.differs(found)}
            for step, meta in zip(steps, metas, strict=True)
            if meta.will_change
        ]
        self._tell("plan", host, steps=len(steps), changes=changing)

    def _carry_out(self, host: Host, wanted: dict[str, list[Any]]) -> None:
        changed = 0
        for step, key in zip(wanted[name_of(host)], host.op_hash_order, strict=True):
            meta = self._state.ops[host][key].operation_meta
            if not meta.will_change:
                continue
            started = time.time()
            self._tell("begins", host, title=step.title)
            with ctx_host.use(host):
                pyinfra_operations.run_host_op(self._state, host, key)
            if not meta.is_complete() or meta.did_error():
                said = meta.stderr_lines or meta.stdout_lines if meta.is_complete() else []
                self._fail(host, f"{step.title}: {_reason(said)}", when="apply")
                return
            changed += 1
            self._tell("changed", host, title=step.title, seconds=round(time.time() - started, 3))
        self._tell("applied", host, changed=changed)

    def _authority(self, host: Host) -> dict[str, Any]:
        """Return how to become root on a host."""
        password = self._passwords.get(name_of(host))
        sudo = {"_sudo": True} if host.data.get("_sudo") else {}
        return {**sudo, **({"_sudo_password": password} if password and sudo else {})}

    def _hosts(self) -> list[Host]:
        return [host for host in self._state.inventory if name_of(host) not in self._failed]

    def _side_by_side(self, hosts: list[Host], work: Any, *arguments: Any) -> None:
        """Work on hosts at the same time; what goes wrong on one of them ends only that one."""

        def one(host: Host) -> None:
            try:
                with ctx_state.use(self._state), ctx_host.use(host):
                    work(host, *arguments)
            except (PyinfraError, OSError, EOFError, ValueError, gevent.Timeout) as error:
                self._fail(host, f"{type(error).__name__}: {error}", when=work.__name__.strip("_"))

        gevent.joinall([self._state.pool.spawn(one, host) for host in hosts])

    def _fail(self, host: Host, error: str, *, when: str) -> None:
        self._failed[name_of(host)] = error
        self._tell("failed", host, error=error, when=when)

    def _tell(self, kind: str, host: Host, **fields: Any) -> None:
        self._out.write(json.dumps({"kind": kind, "host": name_of(host), **fields}) + "\n")


class _Reached(Inventory):  # type: ignore[misc]
    """Hosts over ssh; pyinfra itself looks for connectors in all packages, once a host, and imports them all."""

    def make_hosts_and_groups(self, names: list[tuple[str, dict[str, Any]]], groups: Any) -> None:
        self.host_data = dict(names)
        self.hosts = {
            name: Host(name, inventory=self, groups=[], connector_cls=SSHConnector) for name in self.host_data
        }


def name_of(host: Host) -> str:
    """Return a host's name in the inventory."""
    return str(host.data.get("_name"))


def _reason(lines: list[str]) -> str:
    """Return the last words of a command."""
    said = [line for line in lines if line.strip()]
    return " / ".join(said[-3:])[:600] or "no reason given"


def main() -> int:
    """Carry out orders until there are no more."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # nothing else that prints may come between events
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR, format="%(levelname)s %(message)s")
    child = Child(json.loads(sys.stdin.readline()), out)
    child.connect()
    out.write('{"kind": "done"}\n')
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "look":
            child.look(order["request"])
        elif order["do"] == "apply":
            child.apply(order["steps"], dry=order["dry"])
        out.write('{"kind": "done"}\n')
    return 0


if __name__ == "__main__":
    sys.stdout.flush()
    os._exit(main())
