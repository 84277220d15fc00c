"""Disks, memory, folders, limits and ports: each check fails where something is lacking, and passes otherwise."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from types import SimpleNamespace

import pytest

from largeforge.preflight.checks import limits, memory
from tests.ports import free_port
from tests.preflight.conftest import ON_CPU, SERVE, TRAIN, levels, only, plan_of

Usage = namedtuple("Usage", "total used free")
GIB = 2**30


def with_forecast(plan, **stages):
    """Give the plan a forecast: bytes of memory and of disk by stage."""
    found = {
        name: SimpleNamespace(memory=SimpleNamespace(total=memory_bytes), disk_bytes=disk_bytes)
        for name, (memory_bytes, disk_bytes) in stages.items()
    }
    return replace(plan, forecasts=found)


def test_a_disk_without_room_for_checkpoints_merge_and_download_is_an_error(look, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100 * GIB, 70 * GIB, 30 * GIB))
    finding = only(look("disk", *TRAIN))
    assert finding.level == "error"
    assert finding.text.startswith("30.0 GiB free at ")
    assert "44.1 GiB needed" in finding.text
    assert "download of Qwen/Qwen2.5-7B-Instruct 14.2 GiB" in finding.text
    assert finding.cure.startswith("du -xh")


def test_a_disk_with_room_is_fine_and_one_that_will_be_full_is_a_warning(look, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100 * GIB, 0, 100 * GIB))
    assert levels(look("disk", *TRAIN)) == ["ok"]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100 * GIB, 0, 44.5 * GIB))
    assert levels(look("disk", *TRAIN)) == ["warning"]


def test_a_plans_own_forecast_of_its_files_counts(look, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100 * GIB, 0, 50 * GIB))
    plan = with_forecast(plan_of(*TRAIN), train=(0, 60 * GIB))
    finding = only(look("disk", plan=plan))
    assert finding.level == "error"
    assert "train 60.0 GiB" in finding.text


def test_full_training_keeps_the_checkpoints_that_the_recipe_asks_for(look, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(9999 * GIB, 0, 9999 * GIB))
    words = (*TRAIN, "adapter=none", "merge=false", "method.precision=fp32")
    full = only(look("disk", *words, "method.save_total_limit=4")).text
    # 7.6 B parameters: the result, and 5 checkpoints of weights with two optimizer states, 4 bytes each
    assert "train 453.9 GiB" in full
    few = only(look("disk", *words, "method.max_steps=600", "method.save_steps=500")).text
    assert "train 198.6 GiB" in few
    watched = ("method.save_total_limit=4", "method.load_best_model_at_end=true", "method.eval_steps=10")
    assert "train 539.0 GiB" in only(look("disk", *words, *watched)).text, "the best checkpoint is kept, too"


def test_what_a_model_on_this_machine_needs_is_read_from_its_files(look, folder, monkeypatch):
    """The recipe's architecture is that of its 7 B model; `model.ref` was given another, much smaller one."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100 * GIB, 0, 20 * GIB))
    small = {
        "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 256,
    }  # fmt: skip
    (folder / "small").mkdir()
    (folder / "small" / "config.json").write_text(json.dumps(small))
    finding = only(look("disk", *TRAIN, f"model.ref=path:{folder}/small"))
    assert finding.level == "ok", finding.text
    assert "merge 0 MiB, register 0 MiB" in finding.text


def test_a_file_system_without_inodes_is_an_error_and_with_few_a_warning(look, monkeypatch):
    def left(count):
        monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_files=1000, f_favail=count))
        return only(look("inodes", *ON_CPU)).level

    assert [left(2), left(50), left(10**6)] == ["error", "warning", "ok"]


def test_runs_below_a_file_or_on_a_read_only_file_system_are_an_error(look, folder):
    findings = look("folders", *ON_CPU, f"runs.root={folder}/rows.jsonl/runs", HF_HOME="/proc/largeforge")
    by_purpose = {finding.text.partition(":")[0]: finding for finding in findings}
    assert by_purpose["runs"].level == "error"
    assert "runs.root=FOLDER" in by_purpose["runs"].cure
    assert by_purpose["model cache"].level == "error"
    assert by_purpose["registry"].level == "ok"


def test_folders_that_can_be_made_are_fine_and_nothing_is_left_behind(look, folder):
    before = sorted(path.name for path in folder.iterdir())
    assert set(levels(look("folders", *ON_CPU))) == {"ok"}
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.fixture
def meminfo(folder, monkeypatch):
    def written(available_gib, swap_gib=0):
        file = folder / "meminfo"
        file.write_text(f"MemTotal: 1 kB\nMemAvailable: {available_gib * 2**20} kB\nSwapFree: {swap_gib * 2**20} kB\n")
        monkeypatch.setattr(memory, "MEMINFO", file)
        monkeypatch.setattr(memory, "CGROUP", folder / "cgroup")

    return written


def test_memory_that_others_hold_is_an_error_for_a_plan_that_needs_it(look, meminfo):
    meminfo(8)
    finding = only(look("memory", plan=with_forecast(plan_of(*ON_CPU), train=(12 * GIB, 0))))
    assert finding.level == "error"
    assert "8.0 GiB of memory available, 12.0 GiB needed by train" in finding.text
    meminfo(8, swap_gib=16)
    assert levels(look("memory", plan=with_forecast(plan_of(*ON_CPU), train=(12 * GIB, 0)))) == ["warning"]
    meminfo(16)
    assert levels(look("memory", plan=with_forecast(plan_of(*ON_CPU), train=(12 * GIB, 0)))) == ["ok"]


def test_servers_on_a_cpu_share_its_memory(look, meminfo):
    meminfo(8)
    plan = with_forecast(plan_of(*SERVE), **{"serve/general": (5 * GIB, 0), "serve/other": (5 * GIB, 0)})
    finding = only(look("memory", plan=plan))
    assert (finding.level, "10.0 GiB needed by serve" in finding.text) == ("error", True)


def test_a_containers_limit_counts(look, meminfo, folder):
    meminfo(64)
    (folder / "cgroup").mkdir()
    for name, text in {"max": 3 * GIB, "current": 2 * GIB, "stat": f"inactive_file {GIB}\nanon 5"}.items():
        (folder / "cgroup" / f"memory.{name}").write_text(f"{text}\n")
    assert "2.0 GiB of memory available" in only(look("memory")).text
    (folder / "cgroup" / "memory.current").write_text(f"{3 * GIB}\n")
    assert levels(look("memory")) == ["warning"]


def test_a_port_that_another_process_holds_is_an_error(look):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finding = only(look("ports", *SERVE, f"gateway.port={port}"))
    assert finding.level == "error"
    assert f"another process listens on 127.0.0.1:{port}" in finding.text
    assert f"ss -ltnp 'sport = :{port}'" in finding.cure


def test_a_free_port_and_any_port_are_fine(look):
    port = free_port()
    assert levels(look("ports", *SERVE, f"gateway.port={port}")) == ["ok"]
    assert levels(look("ports", *SERVE, "gateway.port=0")) == ["ok"]
    assert levels(look("ports", *ON_CPU)) == ["skipped"]


def test_an_address_of_another_machine_is_an_error(look):
    finding = only(look("ports", *SERVE, "gateway.host=203.0.113.9"))
    assert (finding.level, finding.cure) == ("error", "gateway.host=127.0.0.1")


@pytest.mark.parametrize(("files", "level"), [(256, "warning"), (1024, "ok")])
def test_few_open_files_are_a_warning(files, level):
    program = "from largeforge.cli import main; main(['doctor', '--only', 'limits', '--json'])"
    command = ["sh", "-c", f'ulimit -n {files}; exec "$0" -c "$1"', sys.executable, program]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f'"level": "{level}"' in ended.stdout.partition("},")[0]


def test_little_shared_memory_is_a_warning_only_where_processes_share_it(look, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=16384, f_frsize=4096))
    assert levels(look("limits", *TRAIN, "hardware.num_gpus=2"))[1] == "warning"
    assert levels(look("limits", *TRAIN))[1] == "ok"
    monkeypatch.setattr(limits, "SHARED_MEMORY", limits.SHARED_MEMORY / "none")
    assert levels(look("limits", *TRAIN))[1] == "skipped"
