"""What a plan says about each target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from largeforge.estimate.ranges import Range
from largeforge.estimate.serving import Server
from largeforge.estimate.targets import Finding, check
from largeforge.estimate.throughput import Load, Speed
from largeforge.hardware import machine
from largeforge.recipe import profiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from largeforge.estimate.shape import Shape

H100 = next(machine(profile).rates for profile in profiles.profiles() if profile.name == "h100")


@pytest.fixture
def speed(library: Callable[[str], Shape]) -> Speed:
    return Speed(Server(library("llama_3_1_8b_instruct")), H100, 256)


@pytest.mark.parametrize(
    ("wanted", "answer", "inverse"),
    [(5, "met", "missed"), (15, "likely", "unlikely"), (25, "unlikely", "likely"), (50, "missed", "met")],
)
def test_the_answer_says_how_sure_it_is(wanted: float, answer: str, inverse: str) -> None:
    found = Range(10, 20, 30)
    assert Finding("x", wanted, found).answer == answer
    assert Finding("x", wanted, found, at_least=False).answer == inverse


def test_targets_that_are_not_set_are_not_judged(speed: Speed) -> None:
    assert check(speed, Load()) == []


def test_a_modest_load_meets_its_targets(speed: Speed) -> None:
    findings = check(speed, Load(requests_per_second=2), ttft_p95_ms=1000, tokens_per_second=20)
    assert [(one.target, one.answer) for one in findings] == [
        ("requests_per_second", "met"), ("ttft_p95_ms", "met"), ("tokens_per_second", "met"),
    ]  # fmt: skip


def test_an_overload_misses_everything(speed: Speed) -> None:
    findings = check(speed, Load(requests_per_second=10_000), ttft_p95_ms=1000, tokens_per_second=20)
    assert {one.answer for one in findings} == {"missed"}
    assert findings[1].found.expected == float("inf")


def test_no_hardware_streams_faster_than_its_memory(speed: Speed) -> None:
    [finding] = check(speed, Load(), tokens_per_second=400)
    assert finding.answer == "missed"
