"""Shipped hardware profiles: complete, physically possible, and found by the name that the driver gives."""

from __future__ import annotations

import re

import pytest

from largeforge import hardware
from largeforge.hardware import Gpu
from largeforge.recipe import folders, profiles
from largeforge.recipe.schema import Hardware

GPUS = [profile for profile in profiles.profiles() if profile.gpu]
FIGURES = ("fp32_tflops", "bf16_tflops", "bandwidth_gb_per_s", "link_gb_per_s", "power_watts", "price_per_hour")


def see(monkeypatch: pytest.MonkeyPatch, *gpus: Gpu) -> None:
    monkeypatch.setattr(hardware, "gpus", lambda: gpus)


@pytest.mark.parametrize("profile", GPUS, ids=lambda profile: profile.name)
def test_a_profile_is_complete_and_each_figure_has_its_source(profile: Hardware) -> None:
    text = (folders.shipped_root() / "conf" / "hardware" / f"{profile.name}.yaml").read_text()
    assert not [name for name in FIGURES if getattr(profile, name) <= 0]
    for name in (*FIGURES, "memory_gib", "usable_memory_gib", "fp8_tflops"):
        assert re.search(rf"^{name}: [\d.]+  # \w", text, re.M), f"{profile.name}: {name} has no source"


@pytest.mark.parametrize("profile", GPUS, ids=lambda profile: profile.name)
def test_rates_are_dense_ones(profile: Hardware) -> None:
    """A sparse figure would be twice as high: bf16 lies within the known ratios to fp32 and to fp8."""
    assert profile.fp8_tflops in (0, pytest.approx(2 * profile.bf16_tflops, rel=0.03))
    assert 0.97 < profile.usable_memory_gib / profile.memory_gib <= 1
    assert profile.bf16_tflops * 1e12 / (profile.bandwidth_gb_per_s * 1e9) < 450  # operations per byte: L40S has most


def test_dense_figures_of_the_data_sheets_of_which_half_is_often_quoted() -> None:
    found = {profile.name: (profile.bf16_tflops, profile.fp8_tflops) for profile in GPUS}
    assert found["h100"] == (989.4, 1978.9)
    assert found["rtx_4090"] == (165.2, 330.3)
    assert found["a100_80gb"] == (312, 0)
    assert found["b200"] == (2250, 4500)


def test_auto_brings_the_figures_of_the_gpu_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, Gpu("NVIDIA H100 80GB HBM3", 79.65, 70.0, "570"))
    completed = profiles.completed(Hardware(name="auto", price_per_hour=1.5))
    assert (completed.bf16_tflops, completed.usable_memory_gib) == (989.4, 79.1)
    assert completed.price_per_hour == 1.5  # what the recipe says stays
    assert hardware.machine(completed).memory_gib == 79.65  # as found


def test_a_card_of_the_same_name_with_less_memory_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, Gpu("NVIDIA GeForce RTX 4060 Ti", 7.996, 7.0, "570"))
    assert profiles.completed(Hardware(name="auto")).bf16_tflops == 0
    see(monkeypatch, Gpu("NVIDIA GeForce RTX 4060 Ti", 15.996, 15.0, "570"))
    assert profiles.completed(Hardware(name="auto")).bf16_tflops == 44.1


@pytest.mark.parametrize("name", ["NVIDIA GeForce RTX 3090 Ti", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA A10G"])
def test_a_similar_name_is_not_the_same_card(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, Gpu(name, 23.99, 23.0, "570"))
    given = Hardware(name="auto")
    assert profiles.completed(given) == given


def test_hardware_that_names_its_gpu_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, Gpu("NVIDIA H100 80GB HBM3", 79.65, 70.0, "570"))
    given = Hardware(name="mine", device="cuda", gpu="NVIDIA H200")
    assert profiles.completed(given) == given


def test_a_profile_with_another_memory_is_a_card_with_that_memory() -> None:
    card = next(profile for profile in GPUS if profile.name == "rtx_4090")
    assert hardware.machine(profiles.completed(card)).usable_memory_gib == 23.52
    larger = hardware.machine(profiles.completed(card.model_copy(update={"memory_gib": 48.0})))
    assert 46 < larger.usable_memory_gib < 48
    own = card.model_copy(update={"memory_gib": 48.0, "usable_memory_gib": 40.0})
    assert hardware.machine(profiles.completed(own)).usable_memory_gib == 40


def test_a_machine_without_gpu_gets_the_figures_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch)
    assert profiles.completed(Hardware(name="auto")).bandwidth_gb_per_s == 51.2
    assert profiles.completed(Hardware(name="cpu", device="cpu")).bandwidth_gb_per_s == 51.2


def test_each_name_of_a_driver_leads_to_one_profile() -> None:
    names = [(name, round(profile.memory_gib / 30)) for profile in GPUS for name in profile.gpu_names]
    assert len(names) == len(set(names))
    assert all(profile.gpu in profile.gpu_names for profile in GPUS)
