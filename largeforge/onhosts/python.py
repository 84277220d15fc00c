"""The interpreter of stages on a host: the inventory's own, compared with this one, or one that is built there."""

from __future__ import annotations

import json
from importlib import metadata
from typing import TYPE_CHECKING

import largeforge
from largeforge.cluster.agent import PACKAGES
from largeforge.deploy import environments, shell
from largeforge.errors import DeployError
from largeforge.hostenv.target import this_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from largeforge.onhosts.host import OnHost
    from largeforge.onhosts.task import Task

_VERSIONS = """
import json, sys
from importlib import metadata
found = {"python": "%d.%d" % sys.version_info[:2]}
for name in json.loads(sys.argv[1]):
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
try:
    import largeforge
    found["largeforge"] = largeforge.__version__
except ImportError:
    found.pop("largeforge", None)
print(json.dumps(found))
"""


def ensure(host: OnHost, task: Task, *, report: Callable[[str], None]) -> str:
    """Return the path of an interpreter on the host that has what this one has.

    Raises DeployError when its packages are others, or the environment cannot be built.
    """
    given = host.reach.host.python
    if given:
        _compare(host, given, task)
        return given
    if task.requirements:
        raise DeployError(
            f"{host.name}: the recipe pins packages (environment.requirements), and environments on hosts have "
            "LargeForge's own: name an interpreter there that has them (python: …)"
        )
    return _built(host, task, report)


def differences(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """Return what is another version there, or missing; builds of one version (`+cpu`, `+cu128`) count as equal."""
    return [
        f"{name} is {there.get(name, 'not there')}, and {version} here"
        for name, version in here.items()
        if there.get(name, "").partition("+")[0] != version.partition("+")[0]
    ]


def versions(task: Task) -> dict[str, str]:
    """Return the versions that must be the same there: of this interpreter, or what the recipe pins."""
    found = {"largeforge": largeforge.__version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {**found, **dict(pin.split("==") for pin in task.requirements)}


def _compare(host: OnHost, python: str, task: Task) -> None:
    here = versions(task)
    try:
        said = shell.run(host.reach, [python, "-c", _VERSIONS, json.dumps(list(here))], root=False, timeout_s=120)
        there: dict[str, str] = json.loads(said.strip().splitlines()[-1])
    except (DeployError, ValueError, IndexError) as error:
        text = str(error).removeprefix(f"{host.name}: ")
        raise DeployError(f"{host.name}: {python} (python: of the inventory) does not run: {text}") from None
    if wrong := differences(here, there):
        cure = "install the same there, or leave python: out, and an environment is built"
        raise DeployError(f"{host.name}: {python} has other packages: {'; '.join(wrong)}. {cure}")


def _built(host: OnHost, task: Task, report: Callable[[str], None]) -> str:
    wanted = environments.of_host(host.reach.host, "train", task.device, python=this_machine().python)
    stamp = f"{wanted.interpreter.removesuffix('/bin/python')}/environment.json"
    said = shell.run(host.reach, ["sh", "-c", f"test -f {stamp} && echo yes || echo no"])
    there = [wanted.key] if said.strip() == "yes" else []
    environments.bring(wanted, host.reach, there, lambda text: report(f"{host.name}: {text}"))
    return wanted.interpreter
