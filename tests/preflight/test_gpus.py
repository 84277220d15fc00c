"""GPU, its memory and its driver, asked of a program that speaks as nvidia-smi does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.preflight.conftest import ON_CPU, TRAIN, levels, only, plan_of

CARD = ("NVIDIA GeForce RTX 4090", 24564, 24210)
GIB = 2**30


def test_a_gpu_plan_without_a_driver_is_an_error_and_a_cpu_plan_needs_none(look, folder):
    finding = only(look("gpu", *TRAIN, PATH=str(folder)))
    assert finding.level == "error"
    assert "no NVIDIA driver is installed" in finding.text
    assert "hardware=cpu" in finding.cure
    assert levels(look("gpu", *ON_CPU, PATH=str(folder))) == ["skipped"]


def test_a_driver_that_fails_or_hangs_is_an_error(look, nvidia_smi):
    finding = only(look("gpu", *TRAIN, PATH=nvidia_smi([CARD], code=9)))
    assert (finding.level, "could not talk to the driver" in finding.text) == ("error", True)
    finding = only(look("gpu", *TRAIN, PATH=nvidia_smi([CARD], sleep_s=20), timeout_s=0.5))
    assert (finding.level, "the driver hangs" in finding.text) == ("error", True)


def test_fewer_gpus_than_the_plan_uses_are_an_error(look, nvidia_smi):
    path = nvidia_smi([CARD, CARD])
    words = (*TRAIN, "hardware.num_gpus=2")
    assert levels(look("gpu", *words, PATH=path)) == ["ok"]
    finding = only(look("gpu", *words, PATH=path, CUDA_VISIBLE_DEVICES="1"))
    assert finding.level == "error"
    assert (finding.text, finding.cure) == (
        "the plan uses 2 GPUs, and 1 can be used (CUDA_VISIBLE_DEVICES=1)", "unset CUDA_VISIBLE_DEVICES",
    )  # fmt: skip
    assert levels(look("gpu", *TRAIN, PATH=path, CUDA_VISIBLE_DEVICES="GPU-0")) == ["ok"]
    assert levels(look("gpu", *TRAIN, PATH=path, CUDA_VISIBLE_DEVICES="-1")) == ["error"]


def test_memory_that_other_processes_hold_is_an_error_that_names_them(look, nvidia_smi):
    apps = "GPU-0, 4711, python3, 20480\nGPU-1, 1, other, 5\n"
    forecast = SimpleNamespace(memory=SimpleNamespace(total=15 * GIB), disk_bytes=0)
    plan = replace(plan_of(*TRAIN), forecasts={"train": forecast})
    finding = only(look("gpu_memory", plan=plan, PATH=nvidia_smi([("RTX", 24564, 4084)], apps)))
    assert finding.level == "error"
    assert "GPU 0: 4.0 of 24.0 GiB free, 15.0 GiB needed by train" in finding.text
    assert "held by python3 (pid 4711, 20.0 GiB)" in finding.text
    assert finding.cure == "ps -fp 4711; then kill 4711"
    assert levels(look("gpu_memory", plan=plan, PATH=nvidia_smi([CARD]))) == ["ok"]


def test_a_gpu_that_is_half_taken_is_a_warning_without_a_plan(look, nvidia_smi):
    finding = only(look("gpu_memory", PATH=nvidia_smi([("RTX", 24564, 12000)])))
    assert (finding.level, finding.cure) == ("warning", "sudo fuser -v /dev/nvidia0")


def test_vllm_needs_its_share_of_the_gpu_free(look, nvidia_smi):
    words = ("+recipe=serve_qwen7b", "hardware=rtx_4090", "serving.gpu_memory_utilization=0.9")
    finding = only(look("gpu_memory", *words, PATH=nvidia_smi([("RTX", 24564, 20000)])))
    assert (finding.level, "21.6 GiB needed by serve" in finding.text) == ("error", True)
    assert levels(look("gpu_memory", *words, PATH=nvidia_smi([CARD]))) == ["ok"]


@pytest.mark.parametrize(
    ("built", "driver", "cuda", "level"),
    [
        ("'12.8'", "570.86.15", "12.8", "ok"),
        ("'12.8'", "535.54.03", "12.2", "ok"),  # minor version compatibility
        ("'13.0'", "570.86.15", "12.8", "error"),
        ("'13.0'", "580.65.06", "13.0", "ok"),
        ("'12.6'", "470.57.02", "11.4", "error"),
        ("None", "570.86.15", "12.8", "error"),
    ],
)
def test_the_driver_must_run_the_cuda_version_that_torch_was_built_for(folder, nvidia_smi, built, driver, cuda, level):
    torch = folder / "packages" / "torch"
    torch.mkdir(parents=True)
    (torch / "__init__.py").write_text("raise RuntimeError('torch was imported')")
    (torch / "version.py").write_text(f"__version__ = '2.13.0'\ncuda: Optional[str] = {built}\nhip = None\n")
    program = f"from largeforge.cli import main; main(['doctor', *{TRAIN!r}, '--only', 'driver', '--json'])"
    path = nvidia_smi([CARD], driver=driver, cuda=cuda)
    environ = {**os.environ, "PATH": path, "PYTHONPATH": str(torch.parent)}
    ended = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True)
    assert not ended.stderr
    finding = only(json.loads(ended.stdout))
    assert finding["level"] == level, finding
    assert (level == "ok") == (not finding["cure"])


@pytest.mark.parametrize("check", ["gpu", "driver", "gpu_memory", "memory", "packages", "vllm"])
def test_servers_on_other_hosts_need_no_gpu_here(look, folder, check):
    (folder / "hosts").mkdir()
    (folder / "hosts" / "lab.yaml").write_text(
        "name: lab\nhosts: {box: {address: 10.1.2.3, roles: [gateway, serve]}}\n"
    )
    words = ("+recipe=serve_quickstart", "serving=vllm_gpu", "hardware=h100", "serving.tensor_parallel_size=8")
    found = look(check, *words, "hosts=lab", PATH=str(folder))
    assert {finding.level for finding in found} <= {"ok", "skipped"}, found
    if check == "gpu":
        assert levels(look(check, *words, PATH=str(folder))) == ["error"], "which they do where they are served here"
