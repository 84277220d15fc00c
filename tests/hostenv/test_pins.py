"""What a role needs is listed in full: a host that runs only the gateway gets all of it, and no torch."""

from __future__ import annotations

import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from largeforge.errors import RecipeError
from largeforge.hostenv import pins
from largeforge.hostenv.pins import normal
from scripts.environment import machine

PROJECT = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"]
EXTRAS = ("gateway", "client", "tracing")
"""What a gateway's host is given of LargeForge."""
PYTHONS = [f"3.{minor}" for minor in range(machine.OLDEST[1], machine.NEWEST[1] + 1)]


def test_the_list_of_the_gateway_is_what_its_packages_need() -> None:
    """Followed through the metadata of what is installed here, for all Pythons and processors of hosts."""
    listed = {pin.name: pin.version for pin in pins.requirements("gateway", "cpu")}
    needed: set[str] = set()
    wrong = []
    for python in PYTHONS:
        for processor in ("x86_64", "aarch64"):
            environment = {
                "python_version": python,
                "python_full_version": f"{python}.1",
                "platform_machine": processor,
            }
            for requirement in closure(environment):
                name = normal(requirement.name)
                needed.add(name)
                if name in listed and not requirement.specifier.contains(Version(listed[name]), prereleases=True):
                    wrong.append(f"{requirement}, but {listed[name]} is listed")
    assert not wrong
    assert set(listed) == needed, "requirements/gateway.txt lists other packages than the gateway needs"


def closure(environment: dict[str, str]) -> list[Requirement]:
    """Return all needs of the gateway's extras: LargeForge's own, and those of what it needs."""
    optional = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *(line for extra in EXTRAS for line in optional[extra])]
    found: list[Requirement] = []
    seen: set[tuple[str, str]] = set()
    todo = [(Requirement(line), "") for line in lines]
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({**environment, "extra": extra}):
            continue
        found.append(requirement)
        new = {(normal(requirement.name), wanted) for wanted in ("", *requirement.extras)} - seen
        seen |= new
        todo += [(Requirement(line), wanted) for name, wanted in new for line in requires(name) or []]
    return found


@pytest.mark.parametrize("device", pins.DEVICES)
def test_the_gateway_has_the_versions_that_everything_else_has(device: str) -> None:
    everything = {pin.name: pin.version for pin in pins.requirements("serve", device)}
    assert {pin.name: pin.version for pin in pins.requirements("gateway", device)}.items() <= everything.items()


def test_only_the_gateway_does_without_torch() -> None:
    names = {role: {pin.name for pin in pins.requirements(role, "cuda")} for role in pins.ROLES}
    assert not names["gateway"] & {"torch", "vllm", "transformers", "mlflow"}
    assert {"torch", "vllm", "trl"} <= names["serve"] == names["train"]


def test_markers_are_kept() -> None:
    (triton,) = (pin for pin in pins.requirements("serve", "cpu") if pin.name == "triton")
    assert triton.marker == 'platform_machine == "x86_64"'


@pytest.mark.parametrize(("role", "device", "said"), [("gatewy", "cpu", "gateway"), ("serve", "gpu", "cpu, cuda")])
def test_a_role_or_device_that_there_is_not_is_named(role: str, device: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        pins.requirements(role, device)
