"""What the CPU side of a machine gives a process, its limits included."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from largeforge import processor


@pytest.fixture
def limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in for the cgroup file system, with this process in /outer/inner; return the folder of `inner`."""
    own = tmp_path / "own"
    own.write_text("1:cpu:/old\n0::/outer/inner\n")
    inner = tmp_path / "cgroup" / "outer" / "inner"
    inner.mkdir(parents=True)
    monkeypatch.setattr(processor, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(processor, "OWN_CGROUP", own)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    return inner


def test_without_limits_all_cores_and_all_memory_may_be_used(limits: Path) -> None:
    (limits / "cpu.max").write_text("max 100000\n")
    (limits / "memory.max").write_text("max\n")
    assert processor.cores() == 8
    assert processor.memory_limit_gib() == processor.memory_gib()


@pytest.mark.parametrize(("quota", "cores"), [("150000", 2), ("50000", 1), ("400000", 4), ("9900000", 8)])
def test_a_cpu_quota_limits_the_cores(limits: Path, quota: str, cores: int) -> None:
    (limits / "cpu.max").write_text(f"{quota} 100000\n")
    assert processor.cores() == cores


def test_the_limit_of_a_cgroup_above_counts_too(limits: Path) -> None:
    (limits / "memory.max").write_text(str(2**30))
    (limits.parent / "memory.max").write_text(str(2**29))
    (limits.parent / "cpu.max").write_text("300000 100000")
    assert processor.memory_limit_gib() == 0.5
    assert processor.cores() == 3


def test_a_machine_without_cgroups_has_no_limits(limits: Path) -> None:
    processor.OWN_CGROUP.unlink()
    assert processor.cores() == 8
    assert processor.memory_limit_gib() == processor.memory_gib()


def test_the_kernel_tells_the_free_memory() -> None:
    assert 0 < processor.free_memory_gib() < processor.memory_gib()


@pytest.mark.parametrize(
    ("flags", "per_cycle"), [("fpu sse2 avx avx2 fma avx512f", 64), ("sse2 avx2 fma", 32), ("sse2 avx", 16), ("", 16)]
)
def test_the_peak_rate_follows_from_the_widest_vectors(
    flags: str, per_cycle: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "_cpuinfo", lambda key: flags if key == "flags" else "")
    assert processor.gflops_per_core() == processor.CLOCK_GHZ * per_cycle


def test_cores_that_others_keep_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = [
        "cpu  0 0 0 0 0\ncpu0 100 0 0 900 0 0 0\ncpu1 10 0 0 90 0 0 0\ncpu7 0 0 0 5 0 0 0\nintr 1\n",
        "cpu  0 0 0 0 0\ncpu0 104 1 3 900 2 0 0\ncpu1 12 0 0 96 2 0 0\ncpu7 9 0 0 5 0 0 0\nintr 1\n",
    ]
    stat = tmp_path / "stat"
    stat.write_text(told[0])
    monkeypatch.setattr(processor, "STAT", stat)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    monkeypatch.setattr("time.sleep", lambda _s: stat.write_text(told[1]))
    assert processor.busy_cores() == pytest.approx(0.8 + 0.2)  # 8 of 10 ticks, and 2 of 10; core 7 is not ours
    stat.unlink()
    assert processor.busy_cores() == 0
