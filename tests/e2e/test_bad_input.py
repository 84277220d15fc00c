"""What a user gets wrong, or what a machine runs out of, is one message that says what to do."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_training import rows, small, weights
from tests.e2e.workspace import Workspace, processes, wait_for


def failed(result: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    """Check the exit code, that every part is in the message, and that there is no stack trace."""
    printed = result.stdout + result.stderr
    assert result.returncode == code, printed
    for part in parts:
        assert part in result.stderr, printed
    assert "Traceback" not in printed


def test_a_missing_file(workspace: Workspace) -> None:
    small(workspace)
    failed(workspace.run("+recipe=small", "dataset.path=absent.jsonl"), 2, "absent.jsonl", "does not exist")


def test_an_empty_dataset(workspace: Workspace) -> None:
    small(workspace).write("empty.jsonl", "")
    failed(workspace.run("+recipe=small", "dataset.path=empty.jsonl"), 2, "empty.jsonl", "empty")


def test_broken_rows_are_named_by_line_and_the_rest_is_counted(workspace: Workspace) -> None:
    lines = rows(40).splitlines()
    lines[4] = "{not json"
    lines[6] = json.dumps({"messages": [{"content": "no role"}]})
    lines[8] = json.dumps({"prompt": "a question", "response": "  "})
    lines[20:33] = ["{"] * 13
    small(workspace).write("words.jsonl", "\n".join(lines) + "\n")
    result = workspace.run("+recipe=small")
    failed(result, 2, "words.jsonl:5", "words.jsonl:7", "words.jsonl:9", "6 more")
    assert "words.jsonl:33" not in result.stderr


def test_a_file_that_is_not_utf8(workspace: Workspace) -> None:
    small(workspace)
    (workspace.path / "latin.jsonl").write_bytes(rows(3).encode() + '{"prompt": "caf\u00e9"}\n'.encode("latin-1"))
    failed(workspace.run("+recipe=small", "dataset.path=latin.jsonl"), 2, "latin.jsonl:4", "UTF-8")


def test_a_broken_model_folder(workspace: Workspace) -> None:
    small(workspace)
    folder = workspace.path / "model"
    folder.mkdir()
    words = ["+recipe=small", f"model.ref=path:{folder}", "~model.tokenizer"]
    failed(workspace.run(*words), 2, str(folder), "config.json")
    (folder / "config.json").write_text("{")
    failed(workspace.run(*words), 2, "config.json", "cannot be read")
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    failed(workspace.run(*words), 2, str(folder), "safetensors")
    (folder / "model.safetensors").write_bytes(b"not weights")
    failed(workspace.run(*words), 1, str(folder))


def test_no_write_permission(workspace: Workspace) -> None:
    small(workspace)
    failed(workspace.run("+recipe=small", "runs.root=/proc/runs"), 2, "/proc", "runs.root=FOLDER")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two mebibytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_too_small_is_named_before_anything_starts(workspace: Workspace, tiny_disk: Path) -> None:
    small(workspace)
    (tiny_disk / "filler").write_bytes(b"\0" * (tiny_disk_free(tiny_disk) - 250_000))
    failed(workspace.run("+recipe=small", f"runs.root={tiny_disk}/runs"), 2, "disk", "needed", str(tiny_disk))
    assert not (tiny_disk / "runs").exists()


def test_a_full_disk_keeps_what_is_finished_and_running_again_continues(workspace: Workspace, tiny_disk: Path) -> None:
    small(workspace)
    words = ["+recipe=small", f"runs.root={tiny_disk}/runs"]
    run = workspace.start(*words)
    wait_for(lambda: list(tiny_disk.glob("runs/small/*/prepare/manifest.json")))
    filler = tiny_disk / "filler"
    filler.write_bytes(b"\0" * (tiny_disk_free(tiny_disk) - 150_000))
    assert run.wait(timeout=900) == 1
    printed = (workspace.path / "output.log").read_text()
    assert "no space left" in printed
    assert "run the same command again" in printed
    assert "Traceback" not in printed
    filler.unlink()
    result = workspace.run(*words)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "prepare   reused" in result.stdout
    assert len(list((tiny_disk / "runs" / "small").iterdir())) == 1


def tiny_disk_free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


@pytest.mark.thorough
def test_two_runs_at_once_do_not_disturb_each_other(workspace: Workspace) -> None:
    small(workspace)
    first, second = (
        subprocess.Popen(
            workspace.command("+recipe=small"),
            cwd=workspace.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    )
    printed = [process.communicate(timeout=600)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), printed
    assert len(list((workspace.path / "runs" / "small").iterdir())) == 2
    assert weights(workspace)


SERVE = """\
# @package _global_
defaults:
  - /topology: single
  - /router: keyword
  - /serving: vllm_cpu
  - override /hardware: cpu
  - _self_
name: serve_one
serve: true
gateway: {port: 0}
"""


def test_a_port_in_use_is_named_before_anything_loads(workspace: Workspace) -> None:
    workspace.write("recipes/serve_one.yaml", SERVE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = [
            "+recipe=serve_one",
            f"gateway.port={port}",
            f"topology.experts.general.model=path:{_model(workspace)}",
        ]
        failed(workspace.run(*words), 2, str(port), "gateway.port")


def test_a_vllm_that_dies_at_start_is_explained_and_leaves_nothing(workspace: Workspace) -> None:
    workspace.write("recipes/serve_one.yaml", SERVE)
    result = workspace.run("+recipe=serve_one", f"topology.experts.general.model=path:{_model(workspace)}")
    failed(result, 1, "vLLM for general", "no_such_architecture")
    assert not processes("vllm.entrypoints", str(workspace.path))


def test_a_model_that_is_not_registered_says_what_to_run(workspace: Workspace) -> None:
    failed(workspace.run("+recipe=serve_quickstart"), 1, "quickstart-general", "+recipe=quickstart")


def _model(workspace: Workspace) -> Path:
    """Return a folder that looks like a model of an architecture that nobody knows."""
    folder = workspace.path / "odd_model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "no_such_architecture", "architectures": ["NoSuch"]}')
    (folder / "model.safetensors").write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
    return folder
