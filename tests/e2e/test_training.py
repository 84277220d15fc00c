"""Training for real on the CPU: it learns, it resumes exactly, and its recipes work on a small base."""

from __future__ import annotations

import json
import os
import random
import signal
import time

from tests.e2e.workspace import Workspace, processes

SMALL = """\
# @package _global_
# A small model from scratch.
defaults:
  - /model: tiny_general
  - /dataset: jsonl
  - /method: sft
  - /evaluation: loss
  - override /hardware: cpu
  - _self_
name: small
model:
  architecture: {hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, vocab_size: 400}
  tokenizer: {vocab_size: 400}
dataset:
  path: words.jsonl
  heldout_fraction: 0.1
method:
  learning_rate: 1e-2
  max_steps: 60
  per_device_train_batch_size: 8
  logging_steps: 1
  save_steps: 10
gates:
  vs_base.loss: "< -1"
"""


def rows(count: int = 200) -> str:
    """Return questions whose answer is the largest of three digits."""
    generator = random.Random(3)
    lines = []
    for index in range(count):
        digits = generator.sample("0123456789", 3)
        question = f"largest of {' '.join(digits)} in case {index}?"
        lines.append(json.dumps({"prompt": question, "response": f"It is {max(digits)}."}))
    return "\n".join(lines) + "\n"


def small(workspace: Workspace) -> Workspace:
    workspace.write("recipes/small.yaml", SMALL)
    workspace.write("words.jsonl", rows())
    return workspace


def weights(workspace: Workspace) -> str:
    files = workspace.manifest("small", "train")["files"]
    return str(files["model.safetensors"]["sha256"])


def losses(workspace: Workspace) -> dict[int, float]:
    events = [json.loads(line) for line in (workspace.run_dir("small") / "events.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["stage"] == "train" and event["kind"] == "progress"]
    return {event["step"]: event["loss"] for event in steps}


def test_a_killed_training_continues_to_the_very_same_weights(tmp_path: object, workspace: Workspace) -> None:
    straight = small(Workspace(workspace.path / "straight"))
    broken = small(Workspace(workspace.path / "broken"))
    assert straight.run("+recipe=small").returncode == 0
    process = broken.start("+recipe=small")
    deadline = time.monotonic() + 300
    while not list(broken.path.glob("runs/small/*/train/work/checkpoints/checkpoint-20/largeforge-checkpoint.json")):
        assert process.poll() is None, broken.output
        assert time.monotonic() < deadline, broken.output
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while processes("largeforge.stages", str(broken.path)):
        assert time.monotonic() < deadline, "a stage outlived the killed runner"
        time.sleep(0.1)
    result = broken.run("+recipe=small")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "continuing from checkpoint-" in result.stdout
    assert weights(broken) == weights(straight)
    assert losses(broken) == losses(straight)
    assert min(losses(straight).values()) < losses(straight)[1] / 2


def test_too_long_a_row_is_refused_by_file_and_line_before_training(workspace: Workspace) -> None:
    small(workspace)
    with (workspace.path / "words.jsonl").open("a") as stream:
        stream.write(json.dumps({"prompt": "why " * 2000, "response": "because"}) + "\n")
    result = workspace.run("+recipe=small", "dataset.heldout_fraction=0", "~evaluation", "~gates")
    assert result.returncode == 2, result.stdout + result.stderr
    assert "words.jsonl:201" in result.stderr
    assert "max_length" in result.stderr
