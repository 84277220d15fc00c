"""What ends a training, for real: it is killed, told to stop, runs out of disk or memory, and goes on exactly."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.attempts import Attempts, Server, prepared
from tests.e2e.test_training import small
from tests.e2e.workspace import Workspace, environment

Start = Callable[..., Attempts]
STEPS = 30
MIB = 2**20


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A working directory in which a small recipe has run."""
    workspace = small(Workspace(tmp_path_factory.mktemp("ran")))
    result = workspace.run("+recipe=small", f"method.max_steps={STEPS}", "~evaluation", "~gates")
    assert result.returncode == 0, result.stdout + result.stderr
    return workspace


@pytest.fixture
def training(ran: Workspace, server: Server, tmp_path: Path) -> Start:
    """Make a training like that of the recipe, with other settings, in a folder of its own."""

    def make(name: str, *, adapter: dict[str, Any] | None = None, dropout: float = 0.0, **method: Any) -> Attempts:
        config, inputs = prepared(ran, "small")
        config["method"] |= {"save_steps": 5, **method}
        config["adapter"] = adapter or config["adapter"]
        if dropout:
            base = shutil.copytree(inputs["base"], tmp_path / f"base-{name}")
            settings = json.loads((base / "config.json").read_text())
            (base / "config.json").write_text(json.dumps(settings | {"attention_dropout": dropout}))
            inputs["base"] = str(base)
        return Attempts(tmp_path / name, config, inputs, server)

    return make


LORA = {
    "name": "lora", "lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "lora_target_modules": "all-linear",
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "full, accumulated, dropout": {"gradient_accumulation_steps": 2, "dropout": 0.1},
    "full, packed": {"packing": True, "max_length": 96, "per_device_train_batch_size": 4},
    "LoRA, dropout, accumulated": {"adapter": LORA, "gradient_accumulation_steps": 2},
    "reports and checkpoints at different steps": {"logging_steps": 4, "save_steps": 3},
}


FIRST = "full, accumulated, dropout"


@pytest.mark.parametrize(
    "settings",
    [pytest.param(KINDS[name], id=name, marks=[] if name == FIRST else pytest.mark.thorough) for name in KINDS],
)
def test_a_training_that_was_killed_and_stopped_ends_as_one_that_was_not(
    training: Start, settings: dict[str, Any]
) -> None:
    straight, broken = training("straight", **settings), training("broken", **settings)
    whole = straight.run()
    killed = broken.start(ends=False)
    killed.reach(8)
    killed.stop(signal.SIGKILL)
    stopped = broken.start()
    stopped.reach(16)
    stopped.stop(signal.SIGTERM)
    assert stopped.code == 130
    step = broken.sealed()[-1]
    assert f"stopped at step {step} of {STEPS}: checkpoint-{step} is kept" in stopped.notes
    last = broken.run()
    assert f"continuing from checkpoint-{step}: {step} of {STEPS} steps are done" in last.notes
    assert {**killed.losses, **stopped.losses, **last.losses} == whole.losses
    assert figures(killed, stopped, last) == figures(whole)
    assert broken.weights() == straight.weights()
    same = ("loss", "steps", "tokens")
    assert {name: last.metrics[name] for name in same} == {name: whole.metrics[name] for name in same}


def figures(*attempts: Any) -> dict[int, Any]:
    """Return what trl reports of each step, without what depends on time."""
    return {
        event["step"]: {name: value for name, value in event["metrics"].items() if not name.startswith("train_")}
        for attempt in attempts
        for event in attempt.of("progress")
    }


def stopped_at(attempts: Attempts, step: int) -> None:
    """Train until a step is done and leave without a word."""
    attempt = attempts.start(ends=False)
    attempt.reach(step)
    attempt.stop(signal.SIGKILL)


def test_a_damaged_checkpoint_is_skipped_for_the_one_before(training: Start) -> None:
    straight, broken = training("straight"), training("broken", save_total_limit=4)
    straight.run()
    stopped_at(broken, 25)
    newest, *before = sorted(broken.sealed(), reverse=True)
    assert len(before) == 3

    (broken.checkpoints / f"checkpoint-{newest}" / "optimizer.pt").unlink()
    weights = broken.checkpoints / f"checkpoint-{before[0]}" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-100] + bytes([content[-100] ^ 1]) + content[-99:])
    os.truncate(broken.checkpoints / f"checkpoint-{before[1]}" / "trainer_state.json", 100)
    leftover = broken.checkpoints / ".saving" / f"checkpoint-{newest + 5}"
    leftover.mkdir(parents=True, exist_ok=True)
    (leftover / "model.safetensors").write_bytes(b"half")
    last = broken.run()

    back = f"going back to checkpoint-{before[2]}"
    assert f"checkpoint-{newest} is damaged (optimizer.pt is missing): {back}" in last.notes
    assert f"checkpoint-{before[0]} is damaged (model.safetensors is not what was saved): {back}" in last.notes
    assert f"checkpoint-{before[1]} is damaged (trainer_state.json has 100 bytes instead of" in last.notes
    assert last.metrics["steps"] == STEPS
    assert broken.weights() == straight.weights()
    assert not leftover.exists()
    assert broken.sealed() == [15, 20, 25, 30][-len(broken.sealed()) :]


def test_the_end_of_a_training_that_was_not_written_is_not_trained_again(training: Start) -> None:
    attempts = training("killed", save_steps=100)
    first = attempts.start(ends=False)
    first.wait_for(lambda: attempts.sealed() == [STEPS])
    first.stop(signal.SIGKILL)
    second = attempts.run()
    assert f"continuing from checkpoint-{STEPS}: {STEPS} of {STEPS} steps are done, where" in second.notes
    assert second.losses == {}
    assert second.metrics["steps"] == STEPS
    straight = training("straight", save_steps=100)
    straight.run()
    assert attempts.weights() == straight.weights()


def test_a_loss_that_is_no_number_keeps_the_checkpoint_before(training: Start) -> None:
    broken = {"learning_rate": 1e37, "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 1, "logging_steps": 4}
    attempts = training("broken", save_steps=1, **broken)
    failed = attempts.run()
    assert failed.code == 1
    told = failed.failure
    assert told["reason"] == "nan"
    step = int(told["error"].split(" at step ")[1].split(",")[0])
    assert attempts.sealed()[-1] < step <= 8
    assert f"checkpoint-{attempts.sealed()[-1]} is from before and is kept" in told["error"]
    assert "Lower method.learning_rate" in told["error"]
    assert f"model.ref=path:{attempts.checkpoints}/checkpoint-{attempts.sealed()[-1]}" in told["error"]
    assert is_finite(attempts.checkpoints / f"checkpoint-{attempts.sealed()[-1]}" / "model.safetensors")
    assert f"continuing from checkpoint-{attempts.sealed()[-1]}" in attempts.run().notes


def is_finite(weights: Path) -> bool:
    from safetensors.numpy import load_file

    return all(bool((abs(tensor) < math.inf).all()) for tensor in load_file(weights).values())


def test_memory_that_is_refused_is_one_message(training: Start, server: Server, tmp_path: Path) -> None:
    attempts = training("large", per_device_train_batch_size=256, max_length=2048)
    data = Path(shutil.copytree(attempts.inputs["data"], tmp_path / "data"))
    row = json.loads((data / "train.jsonl").read_text().splitlines()[0])
    row["messages"][0]["content"] = "7 " * 1000
    (data / "train.jsonl").write_text((json.dumps(row) + "\n") * 256)
    attempts.inputs = {**attempts.inputs, "data": str(data)}
    failed = attempts.run(AS=server.size_bytes() + 1500 * MIB)
    assert failed.code == 1
    assert failed.failure["reason"] == "out_of_memory"
    assert failed.failure["memory_gib"] > 0.3
    assert failed.failure["error"].startswith("out of memory: ")
    assert "GiB more were refused, this process had reached" in failed.failure["error"]
    assert "\n" not in failed.failure["error"]


CGROUP = Path("/sys/fs/cgroup/memory")


def test_a_kill_by_the_kernel_for_want_of_memory_is_told_as_such(ran: Workspace) -> None:
    group = CGROUP / f"largeforge-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text("350M")
    except OSError:
        pytest.skip("limiting memory needs root and cgroups of version 1")
    words = ran.command("+recipe=small", "method.max_steps=6", "~evaluation", "~gates")
    limited = ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh", *words]
    try:
        result = subprocess.run(limited, cwd=ran.path, env=environment(), capture_output=True, text=True, check=False)
    finally:
        group.rmdir()
    assert result.returncode == 1
    assert "train: out of memory: the kernel killed its process" in result.stderr
    assert "The plan had" in result.stderr
    failed = [json.loads(line) for line in (ran.run_dir("small") / "events.jsonl").read_text().splitlines()]
    assert [event["reason"] for event in failed if event["kind"] == "failed"] == ["out_of_memory"]


def test_a_full_disk_keeps_the_last_checkpoint_and_the_training_continues(training: Start, tmp_path: Path) -> None:
    attempts, straight = training("disk"), training("straight")
    straight.run()
    with disk(attempts.folder / "work", tmp_path / "small", size="1200k") as grow:
        failed = attempts.run()
        assert failed.code == 1
        assert failed.failure["reason"] == "disk"
        assert "no space left on its disk" in failed.failure["error"]
        assert "free some space and run the same command again" in failed.failure["error"]
        kept = attempts.sealed()
        assert kept
        assert f"checkpoint-{kept[-1]} is kept" in failed.failure["error"]
        assert not list(attempts.checkpoints.glob(".saving/*"))
        grow()
        last = attempts.run()
        assert f"continuing from checkpoint-{kept[-1]}" in last.notes
        assert attempts.weights() == straight.weights()


def test_hours_count_over_all_attempts_and_end_a_training_like_its_last_step(training: Start) -> None:
    attempts = training("short", max_hours=1.0, save_steps=100)
    (attempts.folder / "work" / "clock.json").write_text('{"seconds": 3590.0, "step": 0}')
    first = attempts.start()
    first.reach(2)
    first.stop(signal.SIGTERM)
    before = attempts.sealed()[-1]
    (attempts.folder / "work" / "clock.json").write_text('{"seconds": 3600.0, "step": 2}')
    second = attempts.run()
    assert second.code == 0
    done = int(second.metrics["steps"])
    assert done == attempts.sealed()[-1] == before + 1 < STEPS
    assert f"max_hours = 1 are over: ended at step {done} of {STEPS}" in second.notes
    assert second.metrics["train_seconds"] >= 3600
    assert attempts.weights()


WATCHED = {
    "learning_rate": 0.05, "lr_scheduler_type": "constant", "eval_steps": 3, "save_steps": 4, "max_steps": 200,
    "early_stopping_patience": 4, "early_stopping_threshold": 0.005, "load_best_model_at_end": True,
}  # fmt: skip


def test_early_stopping_and_the_best_model_are_the_same_after_a_kill(training: Start) -> None:
    straight, broken = training("straight", **WATCHED), training("broken", **WATCHED)
    whole = straight.run()
    end, best = int(whole.metrics["steps"]), int(whole.metrics["best_step"])
    assert best < end < 200
    assert f"loss has not become better in 4 evaluations: ended at step {end} of 200" in whole.notes
    assert f"keeping the model of step {best}" in whole.notes
    values = {event["step"]: event["metrics"]["eval_loss"] for event in whole.of("eval")}
    assert min(values, key=lambda step: values[step]) == best
    assert whole.metrics["best_loss"] == values[best]
    assert straight.sealed() == sorted({best, *straight.sealed()[-2:]})
    kept = (straight.checkpoints / f"checkpoint-{best}" / "model.safetensors").read_bytes()
    assert straight.weights() == kept

    killed = broken.start(ends=False)
    killed.reach(end - 5)
    killed.stop(signal.SIGKILL)
    last = broken.run()
    assert "continuing from checkpoint-" in last.notes
    assert {name: last.metrics[name] for name in ("steps", "best_step", "best_loss")} == {
        "steps": end, "best_step": best, "best_loss": values[best],
    }  # fmt: skip
    assert broken.weights() == straight.weights()
    assert [event["step"] for event in whole.of("checkpoint") if event["best"]][-1] == best


def test_an_unknown_metric_is_refused_with_those_there_are(training: Start) -> None:
    failed = training("wrong", **{**WATCHED, "metric_for_best_model": "mean_token_acuracy"}).run()
    assert failed.code == 1
    assert "did you mean mean_token_accuracy?" in failed.failure["error"]


def test_ctrl_c_saves_a_checkpoint_and_the_same_command_goes_on(ran: Workspace, training: Start) -> None:
    words = ["+recipe=small", "method.max_steps=400", "~evaluation", "~gates"]
    process = ran.start(*words)
    ran.await_output(process, "step 1/400")
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130, ran.output
    assert "stopped at step" in ran.output
    assert "run the same command again to continue" in ran.output
    result = ran.run(*words)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "continuing from checkpoint-" in result.stdout
    assert "nothing is done again" in result.stdout


class disk:
    """A small disk of its own behind a folder; needs root."""

    def __init__(self, folder: Path, mount: Path, *, size: str):
        self.folder, self.mount, self.size = folder, mount, size

    def __enter__(self) -> Callable[[], None]:
        self.mount.mkdir()
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.size}", "small", self.mount], check=False)
        if made.returncode:
            pytest.skip("mounting a small disk needs root")
        self.folder.rmdir()
        self.folder.symlink_to(self.mount)
        return lambda: subprocess.run(["mount", "-o", "remount,size=64m", self.mount], check=True) and None

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", self.mount], check=True)
