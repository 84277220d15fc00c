"""Two processes train as one does, whatever divides the model among them, over gloo on the CPU."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from largeforge.recipe import launching
from largeforge.recipe.launching import Place
from tests.e2e.test_training import SMALL, rows
from tests.e2e.workspace import Workspace, environment, wait_for

PLAIN = SMALL.replace("  - /evaluation: loss\n", "").split("gates:")[0].replace("fraction: 0.1", "fraction: 0")
ADAPTED = PLAIN.replace("name: small", "name: adapted") + "merge: true\n"
WORDS = ("+recipe=small", "method.max_steps=30", "method.save_steps=10", "method.learning_rate=3e-3")
TWO = (*WORDS, "method.per_device_train_batch_size=4", "launcher.num_processes=2")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A working directory in which one process has trained with the whole batch."""
    made = Workspace(tmp_path_factory.mktemp("launchers"))
    made.write("recipes/small.yaml", PLAIN)
    made.write("words.jsonl", rows())
    ended = made.run(*WORDS, "launcher=single")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return made


@pytest.fixture(scope="module")
def alone(workspace: Workspace) -> Path:
    """The run of one process."""
    return workspace.run_dir("small")


def losses(run: Path) -> dict[int, float]:
    events = map(json.loads, (run / "events.jsonl").read_text().splitlines())
    return {e["step"]: e["loss"] for e in events if e["kind"] == "progress" and e["stage"] == "train"}


def weights(run: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    found: dict[str, Any] = load_file(run / "train" / "out" / "model.safetensors")
    return found


def worker(workspace: Workspace, *, rank: int) -> int:
    """Return the pid of a process that trains in this workspace."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words, given = ((folder / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
            if f"RANK={rank}".encode() in given and any(str(workspace.path).encode() in word for word in words):
                return int(folder.name)
    raise AssertionError(f"no process has rank {rank}")


def check(run: Path, alone: Path) -> None:
    """Compare a run of two processes with that of one: every loss, every file, every weight."""
    found, expected = losses(run), losses(alone)
    assert found.keys() == expected.keys()
    assert max(abs(found[step] - loss) for step, loss in expected.items()) < 1e-5
    assert expected[30] < expected[1] / 1.5, "nothing was learnt"
    files = [sorted(path.name for path in (each / "train" / "out").iterdir()) for each in (run, alone)]
    assert files[0] == files[1]
    ours, theirs = weights(run), weights(alone)
    assert ours.keys() == theirs.keys()
    assert {name: value.dtype for name, value in ours.items()} == {name: v.dtype for name, v in theirs.items()}
    assert max((ours[name] - value).abs().max().item() for name, value in theirs.items()) < 1e-4


def test_ddp(workspace: Workspace, alone: Path) -> None:
    ended = workspace.run(*TWO, "launcher=ddp")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    check(workspace.run_dir("small"), alone)


def test_fsdp2_goes_on_after_one_process_was_killed(workspace: Workspace, alone: Path) -> None:
    process = workspace.start(*TWO, "launcher=fsdp2")
    sealed = "train/work/checkpoints/checkpoint-10/largeforge-checkpoint.json"
    wait_for(lambda: (workspace.run_dir("small") / sealed).exists() or process.poll() is not None)
    assert process.poll() is None, workspace.output
    os.kill(worker(workspace, rank=1), signal.SIGKILL)
    assert process.wait(timeout=60) == 1, workspace.output
    error = workspace.output.partition("error: ")[2]
    assert f"(rank 1) on {socket.gethostname()} was killed by SIGKILL" in error
    assert len(error.splitlines()) == 1
    ended = workspace.run(*TWO, "launcher=fsdp2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "continuing from checkpoint-" in ended.stdout
    check(workspace.run_dir("small"), alone)


@pytest.mark.thorough
def test_an_adapter_is_saved_whole_when_its_base_is_divided(workspace: Workspace, alone: Path) -> None:
    workspace.write("recipes/adapted.yaml", ADAPTED)
    words = [word.replace("small", "adapted") for word in TWO]
    base = f"model.ref=path:{alone / 'train' / 'out'}"
    ended = workspace.run(*words, "launcher=fsdp2", "~model.architecture", "~model.tokenizer", base, "+adapter=lora")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    from safetensors.torch import load_file

    run = workspace.run_dir("adapted")
    adapter = load_file(run / "train" / "out" / "adapter_model.safetensors")
    assert len(adapter) == 2 * 7 * 2, "two matrices for each linear layer of both decoder layers"
    assert not any("base_layer" in name for name in adapter)
    merged, before = load_file(run / "merge" / "out" / "model.safetensors"), weights(alone)
    assert merged.keys() == before.keys()
    assert any(not value.equal(merged[name]) for name, value in before.items())


@pytest.mark.parametrize(("stage", "offload"), [
    pytest.param(1, "none", marks=pytest.mark.thorough), pytest.param(2, "optimizer", marks=pytest.mark.thorough),
    (3, "all"),
])  # fmt: skip
def test_zero(
    workspace: Workspace, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: int, offload: str
) -> None:
    pytest.importorskip("deepspeed", reason="DeepSpeed is an extra")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "compiled"))
    ended = workspace.run(*TWO, "launcher=deepspeed", f"launcher.zero_stage={stage}", f"launcher.offload={offload}")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    check(workspace.run_dir("small"), alone)
    assert not (tmp_path / "compiled").exists(), "a compiler is not to be needed"


def test_workers_refuse_what_accelerate_fell_back_to_before_the_first_step(workspace: Workspace, alone: Path) -> None:
    spec = json.loads((alone / "train" / "stage.json").read_text())
    folder = workspace.path / "fallen"
    for name in ("out", "work"):
        (folder / name).mkdir(parents=True)
        spec[name] = str(folder / name)
    spec["config"] |= {"launcher": {"name": "fsdp2"}, "world_size": 2}
    spec["config"]["method"]["precision"] = "bf16"
    path = folder / "stage.json"
    path.write_text(json.dumps(spec))
    repository = Path(__file__).parents[2]

    single = [sys.executable, "-m", "largeforge.stages", str(path)]
    ended = subprocess.run(single, env=environment(), capture_output=True, text=True)
    assert ended.returncode == 1
    assert [event["error"] for event in failures(ended.stdout)] == [
        "the launcher started 1 processes where the plan has 2"
    ]

    place = Place("cpu", 0, {}, sys.executable, folder, str(workspace.path))
    both = launching.torchrun(["tests.e2e.fallen", str(path)], place, processes=2)
    ended = subprocess.run(both, cwd=repository, env=environment(), capture_output=True, text=True)
    assert ended.returncode == 1
    told = {event["error"] for event in failures(ended.stdout)}
    assert len(told) == 1, ended.stdout + ended.stderr
    assert "(launcher=fsdp2): FSDP2, found DDP; computing in bf16, found fp32" in told.pop()
    assert '"progress"' not in ended.stdout
    assert not list((folder / "work").glob("checkpoints/checkpoint-*"))


def failures(stdout: str) -> list[dict[str, Any]]:
    """Return the `failed` events that processes told."""
    events = (json.loads(line) for line in stdout.splitlines() if line.startswith("{"))
    return [event for event in events if event["kind"] == "failed"]
