"""The interpreter of stages on a host: the inventory's own, compared with this one, or one that is built there."""

from __future__ import annotations

import base64
import json
import zlib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import largeforge
from largeforge.cluster.agent import PACKAGES
from largeforge.deploy import secret_refs, shell
from largeforge.errors import DeployError
from largeforge.hostenv import manifest, own, pins
from largeforge.hostenv.remote import source
from largeforge.hostenv.spec import HostEnvironment, Index
from largeforge.hostenv.target import this_machine
from largeforge.onhosts import transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from largeforge.onhosts.host import OnHost
    from largeforge.onhosts.task import Task
    from largeforge.recipe.sections.hosts import Host

BUILD_TIMEOUT_S = 3600.0
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
_RUN = "import sys,zlib,base64;exec(compile(zlib.decompress(base64.b64decode(sys.argv.pop(1))),'build','exec'))"


def ensure(host: OnHost, task: Task, home: str, *, report: Callable[[str], None]) -> str:
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
    return _built(host, task, home, report)


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


def _built(host: OnHost, task: Task, home: str, report: Callable[[str], None]) -> str:
    packages, root = host.reach.host.packages, f"{host.reach.host.paths.root}/environments"
    wheels = f"{home}/incoming/wheels"
    if packages.wheelhouse:
        folder = Path(packages.wheelhouse).expanduser()
        found = manifest.read(folder)
        environment, files = found.environment("train"), found.needed("train")
        order = environment.order(
            wheels_folder=wheels, wheels=files, pip=found.pip, machine=found.target.machine, root=root
        )
        source_of_wheels = folder / manifest.WHEELS
    else:
        environment = own.environment(
            "train", task.device, python=this_machine().python, index=index_of(host.reach.host, task)
        )
        order, source_of_wheels = environment.order(wheels_folder=wheels, root=root), own.wheel()[1]
    there = shell.run(
        host.reach, ["sh", "-c", f"test -f {environment.folder(root)}/environment.json && echo yes || echo no"]
    )
    if there.strip() != "yes":
        report(f"{host.name}: building the environment {environment.key} (once)")
        transfer.push(source_of_wheels, host.reach, wheels, report=report)
    return _carried_out(host, environment, order, root)


def _carried_out(host: OnHost, environment: HostEnvironment, order: dict[str, Any], root: str) -> str:
    packed = base64.b64encode(zlib.compress(source().encode(), 9)).decode()
    said = shell.run(host.reach, ["sh", "-c", 'python3 -c "$0" "$1" || true', _RUN, packed],
                     stdin=json.dumps(order), timeout_s=BUILD_TIMEOUT_S)  # fmt: skip
    last = json.loads((said.strip().splitlines() or ["{}"])[-1])
    if last.get("event") != "done":
        raise DeployError(f"{host.name}: the environment could not be built: {last.get('message', 'it said nothing')}")
    return environment.interpreter(root)


def index_of(host: Host, task: Task) -> Index:
    """Return where a host gets packages from, with the passwords."""
    packages = host.packages
    extra = (pins.TORCH_CPU_INDEX,) if task.device == "cpu" and not packages.index_url else ()
    return Index(
        _with_password(packages.index_url, packages.index_password), extra,
        _with_password(packages.proxy, packages.proxy_password),
    )  # fmt: skip


def _with_password(address: str, reference: str) -> str:
    if not address or not reference:
        return address
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{secret_refs.fetch(reference)}@{rest}"
