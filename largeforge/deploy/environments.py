"""The Python environment of a host: which one its role needs, where its packages come from, and how it gets there."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.deploy import remote_python, secret_refs, shell, steps, transfer
from largeforge.errors import DeployError
from largeforge.hostenv import manifest, own, remote
from largeforge.hostenv.pins import TORCH_CPU_INDEX
from largeforge.hostenv.spec import Index

if TYPE_CHECKING:
    from largeforge.deploy.connection import Reach
    from largeforge.recipe.sections.hosts import Host, Packages

PROGRAM = "build_environment"


@dataclass(frozen=True)
class HostPython:
    """What a host runs its services with."""

    interpreter: str
    label: str = ""
    key: str = ""
    """Name of the environment that is built there; empty where the host has an interpreter of its own."""
    order: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What the program that builds it reads; it may hold a password."""
    wheels: Path | None = None
    """File or folder on this machine that is brought to the host first."""
    wheels_folder: str = ""

    def steps(self) -> list[steps.Step]:
        """Return the step that has the environment; it does nothing where that was built before."""
        if not self.key:
            return []
        line = shlex.join(remote_python.packed(PROGRAM, remote.source()))
        return [steps.Made("environments", self.key, self.label, line, json.dumps(self.order))]


def of_host(host: Host, role: str, device: str, *, python: str) -> HostPython:
    """Return what a host of a role gets: the interpreter that the inventory names, or an environment of its own.

    `python` is the version (3.11) of one that is made from a package index; a bundle has its own.

    Raises BuildError when a bundle is not for this host, SecretError when a password is not where it should be.
    """
    if host.python:
        return HostPython(host.python)
    root = f"{host.paths.root}/environments"
    if host.packages.wheelhouse:
        folder = Path(host.packages.wheelhouse).expanduser()
        bundle = manifest.read(folder)
        made = bundle.environment(role)
        there = f"{host.paths.root}/wheels"
        order = made.order(
            wheels_folder=there, wheels=bundle.needed(role), pip=bundle.pip, machine=bundle.target.machine, root=root
        )
        wheels: Path = folder / manifest.WHEELS
    else:
        made = own.environment(role, device, python=python, index=_index(host.packages, device))
        wheels = own.wheel()[1]
        there = f"{host.paths.root}/wheels/{made.key}"
        order = made.order(wheels_folder=there, root=root)
    label = f"environment for {role}, {device} ({len(made.pins) + 1} packages)"
    return HostPython(made.interpreter(root), label, made.key, order, wheels, there)


def bring(python: HostPython, reach: Reach, there: Collection[str], report: Callable[[str], None]) -> None:
    """Build a host's environment unless it is one of those that are there, and tell how far that is.

    Raises DeployError with the last words of what failed.
    """
    if not python.key or python.key in there:
        return
    assert python.wheels is not None
    report(f"building {python.label}")
    transfer.make_folder(reach, python.wheels_folder)
    transfer.push(python.wheels, python.wheels_folder, reach, report=report)
    error = ""
    for line in shell.lines(
        reach, remote_python.packed(PROGRAM, remote.source()), stdin=json.dumps(python.order), check=False
    ):
        said = json.loads(line) if line.startswith("{") else {}
        error = str(said.get("message", error))
        if told := _told(said):
            report(told)
    if error:
        raise DeployError(f"{reach.name}: {python.label}: {error}")


def _told(said: Mapping[str, Any]) -> str:
    """Return progress in words; of packages, every fiftieth."""
    if said.get("event") in ("fetching", "installing") and said.get("package"):
        number, total = int(said["package"]), int(said.get("of", 0))
        return f"{said['event']} {number} of {total}" if number % 50 == 0 or number == total else ""
    if said.get("event") == "done":
        return f"environment ready after {float(said.get('seconds', 0)):.0f} s"
    return str(said["event"]) if said.get("event") in ("waiting", "compiling") else ""


def _index(packages: Packages, device: str) -> Index:
    extra = (TORCH_CPU_INDEX,) if device == "cpu" and not packages.index_url else ()
    return Index(
        secret_refs.within(packages.index_url, packages.index_password), extra,
        secret_refs.within(packages.proxy, packages.proxy_password),
    )  # fmt: skip
