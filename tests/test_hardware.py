"""What a machine is: from what the recipe says, and what the drivers' own programs print."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from largeforge import hardware
from largeforge.hardware import Gpu
from largeforge.recipe.schema import Hardware

NVIDIA = """#!/bin/sh
[ "$1 $2" = "--query-gpu=name,memory.total,memory.free,driver_version --format=csv,noheader,nounits" ] || exit 9
cat <<'END'
{rows}
END
"""
TWO_4090 = """NVIDIA GeForce RTX 4090, 24564, 24000, 560.35.03
NVIDIA GeForce RTX 4090, 24564, 512, 560.35.03"""
AMD = """#!/bin/sh
cat <<'END'

device,VRAM Total Memory (B),VRAM Total Used Memory (B),Card Series,Driver version
card0,206141652992,293601280,AMD Instinct MI300X OAM,6.12.12
card1,206141652992,103070826496,AMD Instinct MI300X OAM,6.12.12
END
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of programs that comes before all others; GPUs are looked for anew."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    hardware.gpus.cache_clear()
    yield tmp_path
    hardware.gpus.cache_clear()


def write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def test_nvidia_gpus_come_with_memory_and_driver(programs: Path) -> None:
    write(programs / "nvidia-smi", NVIDIA.format(rows=TWO_4090))
    first, second = hardware.gpus()
    assert first == Gpu("NVIDIA GeForce RTX 4090", 24564 / 1024, 24000 / 1024, "560.35.03")
    assert second.free_gib == 0.5


def test_auto_takes_all_gpus_of_the_first_ones_kind(programs: Path) -> None:
    write(programs / "nvidia-smi", NVIDIA.format(rows=TWO_4090 + "\nNVIDIA T400, 2048, 2000, 560.35.03"))
    found = hardware.machine(Hardware(name="auto"))
    assert (found.device, found.gpu, found.num_gpus) == ("cuda", "NVIDIA GeForce RTX 4090", 2)
    assert found.free_memory_gib == 0.5  # of the one with the least
    assert found.driver == "560.35.03"
    assert 0.97 * found.memory_gib < found.usable_memory_gib < found.memory_gib


def test_the_largest_card_counts_wherever_it_is_plugged_in(programs: Path) -> None:
    write(programs / "nvidia-smi", NVIDIA.format(rows="NVIDIA T400, 2048, 2000, 560.35.03\n" + TWO_4090))
    found = hardware.machine(Hardware(name="auto"))
    assert (found.gpu, found.num_gpus) == ("NVIDIA GeForce RTX 4090", 2)


def test_rows_that_are_no_gpu_are_passed_over(programs: Path) -> None:
    rows = "Unable to determine the device handle for GPU1, Unknown Error\n" + TWO_4090 + "\na, b, c, d, e"
    write(programs / "nvidia-smi", NVIDIA.format(rows=rows))
    assert len(hardware.gpus()) == 2


def test_memory_that_is_shared_with_the_cpu_is_unknown(programs: Path) -> None:
    write(programs / "nvidia-smi", NVIDIA.format(rows="NVIDIA GB10, [N/A], [N/A], 580.1"))
    assert hardware.gpus() == (Gpu("NVIDIA GB10", 0.0, 0.0, "580.1"),)


def test_a_gpu_of_unknown_memory_is_not_said_to_have_none() -> None:
    assert str(hardware.Machine("cuda", "NVIDIA GB10", 1, 0.0, 20)) == "1 × NVIDIA GB10 (memory unknown), 20 CPU cores"


def test_amd_gpus_are_found_where_there_are_none_of_nvidia(programs: Path) -> None:
    write(programs / "nvidia-smi", "#!/bin/sh\nexit 9\n")
    write(programs / "rocm-smi", AMD)
    found = hardware.machine(Hardware(name="auto"))
    assert (found.device, found.gpu, found.num_gpus) == ("cuda", "AMD Instinct MI300X OAM", 2)
    assert found.memory_gib == pytest.approx(192, abs=0.1)
    assert found.free_memory_gib == pytest.approx(96, abs=0.1)
    assert found.driver == "6.12.12"


def test_a_driver_that_fails_means_no_gpu(programs: Path) -> None:
    write(programs / "nvidia-smi", "#!/bin/sh\necho 'NVIDIA-SMI has failed, because it could not talk'\nexit 9\n")
    write(programs / "rocm-smi", "#!/bin/sh\necho garbage, more\n")
    assert hardware.gpus() == ()
    assert hardware.machine(Hardware(name="auto")).device == "cpu"


def test_a_profile_describes_a_machine_that_is_elsewhere(programs: Path) -> None:
    write(programs / "nvidia-smi", "#!/bin/sh\nexit 9\n")
    given = Hardware(
        name="x", device="cuda", gpu="NVIDIA H200", num_gpus=8, memory_gib=140, usable_memory_gib=139, bf16_tflops=989
    )
    found = hardware.machine(given)
    assert (found.num_gpus, found.usable_bytes, found.rates.bf16_tflops) == (8, 139 * 2**30, 989)
    assert (found.free_memory_gib, found.driver) == (0, "")


def test_less_memory_than_the_profile_has_makes_less_usable(programs: Path) -> None:
    given = Hardware(name="x", device="cuda", gpu="NVIDIA H200", memory_gib=40, usable_memory_gib=139)
    assert hardware.machine(given).usable_memory_gib == 40


def test_a_cpu_has_a_rate_and_no_more_memory_than_it_was_given() -> None:
    found = hardware.machine(Hardware(name="cpu", device="cpu", cores=4, memory_gib=3))
    assert found.usable_bytes == 3 * 2**30
    assert 0.1 < found.rates.fp32_tflops < 1
    assert found.name.endswith(" x4")
    more = hardware.machine(Hardware(name="cpu", device="cpu", cores=4, memory_gib=3, fp32_tflops=7))
    assert more.rates.fp32_tflops == 7


def test_what_changes_from_hour_to_hour_does_not_identify_a_machine(programs: Path) -> None:
    write(programs / "nvidia-smi", NVIDIA.format(rows=TWO_4090))
    busy = hardware.machine(Hardware(name="auto", price_per_hour=1))
    hardware.gpus.cache_clear()
    write(programs / "nvidia-smi", NVIDIA.format(rows=TWO_4090.replace("24000", "3").replace("560.35", "570.1")))
    idle = hardware.machine(Hardware(name="auto"))
    assert busy != idle
    assert busy.as_dict() == idle.as_dict()
