"""Which wheels run on another machine."""

from __future__ import annotations

import pytest

from largeforge.errors import RecipeError
from largeforge.hostenv.pins import Pin
from largeforge.hostenv.target import Target, target, this_machine

ARM = Target("3.12", "aarch64", 28)


@pytest.mark.parametrize(
    ("file", "fits"),
    [
        ("a-1.0-py3-none-any.whl", True),
        ("a-1.0-cp312-cp312-manylinux_2_28_aarch64.whl", True),
        ("a-1.0-cp312-cp312-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", True),
        ("a-1.0-cp39-abi3-manylinux_2_17_aarch64.whl", True),
        ("a-1.0-cp312-cp312-manylinux_2_34_aarch64.whl", False),
        ("a-1.0-cp312-cp312-manylinux_2_28_x86_64.whl", False),
        ("a-1.0-cp311-cp311-manylinux_2_28_aarch64.whl", False),
        ("a-1.0-cp312-cp312-musllinux_1_2_aarch64.whl", False),
    ],
)
def test_a_wheel_fits_by_python_processor_and_c_library(file: str, fits: bool) -> None:
    assert ARM.fits(file) is fits


def test_markers_are_those_of_the_other_machine() -> None:
    assert not ARM.needs(Pin("triton", "1", "", 'platform_machine == "x86_64"'))
    assert Target("3.12", "x86_64", 28).needs(Pin("triton", "1", "", 'platform_machine == "x86_64"'))
    assert not ARM.needs(Pin("a", "1", "", 'python_version < "3.12"'))
    assert ARM.needs(Pin("a", "1", "a==1"))


def test_what_is_not_said_is_as_here() -> None:
    here = this_machine()
    assert target() == here and here.is_here
    assert target("3.14") == Target("3.14", here.machine, here.glibc)
    assert target("3.12", "manylinux_2_28_aarch64") == ARM
    assert target("3.12", "manylinux2014_x86_64").glibc == 17


@pytest.mark.parametrize("words", [("3.10", ""), ("", "win_amd64"), ("", "manylinux_2_28_x86_64; rm")])
def test_another_python_or_platform_is_refused(words: tuple[str, str]) -> None:
    with pytest.raises(RecipeError, match=r"3\.11|manylinux_2_28_x86_64 or"):
        target(*words)
