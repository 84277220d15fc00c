"""Students come close to their teacher and rewards rise, as with plain trl, and both go on exactly after a kill.

The task has a known answer: which of four digits is the largest. The base answers with any of them.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.workspace import Workspace, environment, processes, wait_for

PLAIN = Path(__file__).parent / "plain"
STEPS = 8
"""Steps whose losses are compared with plain trl."""

SCHEDULE = {"lr_scheduler_type": "cosine", "warmup_steps": 5, "logging_steps": 1, "save_steps": 1000}
SFT = {"learning_rate": 2e-3, "per_device_train_batch_size": 32, "max_length": 32, **SCHEDULE}
DISTILL = {**SFT, "learning_rate": 1e-3, "max_steps": 40, "teacher": "job:teacher", "max_new_tokens": 6}
GRPO = {
    "learning_rate": 5e-4, "max_steps": 40, "per_device_train_batch_size": 64, "max_length": 32, **SCHEDULE,
    "max_completion_length": 6, "num_generations": 8, "steps_per_generation": 2, "num_iterations": 2, "save_steps": 7,
    "rewards": {"exact_match": {}, "length": {"unit": "characters", "maximum": 1, "weight": 0.5}},
}  # fmt: skip
JOBS: dict[str, dict[str, Any]] = {
    "gkd": {"method": {**DISTILL, "save_steps": 10}},
    "on_policy": {"method": {**DISTILL, "algorithm": "on_policy", "gradient_accumulation_steps": 2}},
    "logit": {"method": {**DISTILL, "algorithm": "logit", "beta": 0.0}, "adapter": {"lora_r": 32, "lora_alpha": 64}},
    "grpo": {"method": GRPO},
}
LORA = {"r": 32, "lora_alpha": 64}
MODEL = {
    "architecture": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 2, "vocab_size": 300},
    "tokenizer": {"vocab_size": 300},
}


def write_rows(workspace: Workspace) -> None:
    generator = random.Random(11)
    prompts = list(permutations("0123456789", 4))
    generator.shuffle(prompts)
    files = {
        "any.jsonl": [{"prompt": " ".join(p), "response": generator.choice(p)} for p in prompts[:4000]],
        "gold.jsonl": [{"prompt": " ".join(p), "response": max(p)} for p in prompts[:4000]],
        "unseen.jsonl": [{"prompt": " ".join(p), "response": max(p)} for p in prompts[4000:4200]],
    }
    for name, rows in files.items():
        workspace.write(name, "".join(json.dumps(row) + "\n" for row in rows))


def write_recipe(workspace: Workspace, name: str, jobs: dict[str, dict[str, Any]], *, cores: int = 2) -> None:
    choices: list[Any] = []
    for job, content in jobs.items():
        method = "grpo" if job == "grpo" else "distill" if job in JOBS else "sft"
        choices += [
            {f"/dataset@jobs.{job}.dataset": "jsonl"},
            {f"/method@jobs.{job}.method": method},
            {f"/adapter@jobs.{job}.adapter": "lora" if "adapter" in content else "none"},
            *([{f"/model@jobs.{job}.model": "tiny_general"}] if job == "base" else []),
            *([{f"/reward@jobs.{job}.method.rewards": ["exact_match", "length"]}] if job == "grpo" else []),
            *([{f"/evaluation@jobs.{job}.evaluation": list(content["evaluation"])}] if "evaluation" in content else []),
        ]
    recipe = {"defaults": [*choices, {"override /hardware": "cpu"}, "_self_"], "name": name, "jobs": jobs}
    recipe["hardware"] = {"cores": cores}  # two trainings side by side have one each
    workspace.write(f"recipes/{name}.yaml", f"# @package _global_\n{yaml.safe_dump(recipe, sort_keys=False)}")


def on_gold(model: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"model": {"ref": model}, "dataset": {"path": "gold.jsonl", "heldout_path": "unseen.jsonl"}, **content}


def with_evaluation(job: str) -> dict[str, Any]:
    own = f"${{jobs.{job}.method.{'rewards' if job == 'grpo' else 'teacher'}}}"
    found = (
        {"reward": {"rewards": own, "max_new_tokens": 6}} if job == "grpo" else {"teacher_agreement": {"teacher": own}}
    )
    return {**on_gold("job:base", JOBS[job]), "evaluation": found}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A working directory in which a teacher, its students and a policy were trained."""
    workspace = Workspace(tmp_path_factory.mktemp("teaching"))
    write_rows(workspace)
    base = {
        "model": MODEL,
        "dataset": {"path": "any.jsonl", "heldout_fraction": 0},
        "method": {**SFT, "max_steps": 120},
    }
    teacher = on_gold("job:base", {"method": {**SFT, "max_steps": 50}})
    write_recipe(
        workspace, "teaching", {"base": base, "teacher": teacher, **{job: with_evaluation(job) for job in JOBS}}
    )
    result = workspace.run("+recipe=teaching")
    assert result.returncode == 0, result.stdout + result.stderr
    return workspace


def judged(workspace: Workspace, job: str) -> dict[str, float]:
    metrics: dict[str, float] = workspace.manifest("teaching", f"{job}.evaluate")["metrics"]
    return metrics


def progress(workspace: Workspace, recipe: str, job: str) -> dict[int, dict[str, Any]]:
    lines = (workspace.run_dir(recipe) / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    return {e["step"]: e for e in events if e["stage"] == f"{job}.train" and e["kind"] == "progress"}


@pytest.mark.parametrize("job", ["gkd", "on_policy", "logit"])
def test_a_student_comes_close_to_its_teacher(digits: Workspace, job: str) -> None:
    metrics = judged(digits, job)
    assert metrics["base.teacher_agreement"] < 0.85
    assert metrics["teacher_agreement"] > 0.95
    assert metrics["teacher_kl"] < metrics["base.teacher_kl"] / 5


def test_the_reward_of_answers_to_unseen_prompts_rises(digits: Workspace) -> None:
    metrics = judged(digits, "grpo")
    assert metrics["base.reward.exact_match"] < 0.5
    assert metrics["reward.exact_match"] > metrics["base.reward.exact_match"] + 0.2
    assert metrics["reward"] == pytest.approx(metrics["reward.exact_match"] + 0.5 * metrics["reward.length"])


def test_the_mean_of_each_reward_is_reported_while_it_trains(digits: Workspace) -> None:
    metrics = [event["metrics"] for event in progress(digits, "teaching", "grpo").values()]
    right = [found["rewards/exact_match/mean"] for found in metrics if "rewards/exact_match/mean" in found]
    short = [found["rewards/length/mean"] for found in metrics if "rewards/length/mean" in found]
    assert len(right) == len(short) == GRPO["max_steps"] / 4, "answers are generated every fourth step"
    assert sum(right[-3:]) / 3 > sum(right[:3]) / 3 + 0.2
    assert all(0 <= mean <= 1 for mean in short)


def test_every_algorithm_has_the_losses_of_a_plain_trl_script(digits: Workspace) -> None:
    run = digits.run_dir("teaching")
    planned = {stage["name"]: stage for stage in json.loads((run / "plan.json").read_text())["stages"]}
    jobs = []
    for job, content in JOBS.items():
        config = planned[f"{job}.train"]["config"]
        left = ("algorithm", "rewards", "logging_steps", "save_steps")
        own = {key: value for key, value in content["method"].items() if key not in left}
        own |= {"lmbda": {"gkd": 0.5, "logit": 0.0}[job], "temperature": 1.0} if job in ("gkd", "logit") else {}
        own |= {"beta": 0.5} if job in ("gkd", "on_policy") else {}
        if job == "on_policy":
            own["max_completion_length"] = own.pop("max_new_tokens")
        if "teacher" in own:
            own["teacher"] = str(run / "teacher.train" / "out")
        jobs.append({
            "name": job, "method": "gkd" if job == "logit" else job, "steps": STEPS,
            "model": str(run / "base.train/out"),
            "rows": str(run / f"{job}.prepare/out/train.jsonl"), "threads": planned[f"{job}.train"]["threads"],
            "settings": {**own, "seed": config["seed"]}, "lora": LORA if job == "logit" else {},
        })  # fmt: skip
    spec, answer = digits.write("plain.json", json.dumps(jobs)), digits.path / "losses.json"
    surroundings = {**environment(), "TRL_EXPERIMENTAL_SILENCE": "1"}
    command = [sys.executable, str(PLAIN), str(spec), str(answer)]
    result = subprocess.run(command, env=surroundings, cwd=digits.path, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stderr
    plain = json.loads(answer.read_text())
    ours = {job: progress(digits, "teaching", job) for job in plain}
    assert {job: [ours[job][step]["loss"] for step in range(1, STEPS + 1)] for job in plain} == plain


@pytest.mark.thorough
def test_a_killed_training_goes_on_to_the_very_same_weights(digits: Workspace, tmp_path: Path) -> None:
    """Own answers are drawn anew, and a checkpoint may stand between generating answers and learning from them."""
    run = digits.run_dir("teaching")
    gkd = {**JOBS["gkd"]["method"], "teacher": f"path:{run}/teacher.train/out"}
    jobs = {"gkd": {"method": gkd}, "grpo": JOBS["grpo"]}
    broken = {job: Workspace(tmp_path / job) for job in jobs}
    for job, workspace in broken.items():
        write_rows(workspace)
        write_recipe(workspace, "broken", {job: on_gold(f"path:{run}/base.train/out", jobs[job])}, cores=1)
    running = {job: workspace.start("+recipe=broken") for job, workspace in broken.items()}

    def are_killed() -> bool:
        for job in [job for job in running if has_checkpoint(broken[job])]:
            os.kill(running[job].pid, signal.SIGKILL)
            assert running.pop(job).wait() == -signal.SIGKILL, broken[job].output
        assert all(process.poll() is None for process in running.values())
        return not running

    wait_for(are_killed)
    wait_for(lambda: not processes("largeforge.stages", str(tmp_path)))
    again = {job: workspace.start("+recipe=broken") for job, workspace in broken.items()}
    for job, workspace in broken.items():
        assert again[job].wait(300) == 0, workspace.output
        assert "continuing from checkpoint-" in workspace.output
        straight, resumed = digits.manifest("teaching", f"{job}.train"), workspace.manifest("broken", f"{job}.train")
        weights = "model.safetensors"
        assert resumed["files"][weights]["sha256"] == straight["files"][weights]["sha256"]
        losses = {step: event["loss"] for step, event in progress(digits, "teaching", job).items()}
        assert {step: event["loss"] for step, event in progress(workspace, "broken", job).items()} == losses


def has_checkpoint(workspace: Workspace) -> bool:
    return bool(
        list(workspace.path.glob("runs/broken/*/*.train/work/checkpoints/checkpoint-*/largeforge-checkpoint.json"))
    )
