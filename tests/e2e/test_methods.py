"""Every method that needs no teacher learns as plain trl does, also when it is killed on the way.

The task has a known answer: which of four digits is the largest. The base answers with any of them. An adapter of
every kind is trained on it.
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
from safetensors import safe_open

from tests.e2e.workspace import Workspace, environment, processes, wait_for

PLAIN = Path(__file__).parent / "plain"
STEPS = 10
"""Steps whose losses are compared with plain trl; all of those that are killed."""
KILLED = ("dpo", "reward")
"""Jobs that train when the run is killed: a reference model beside the policy, a new head beside an adapter."""

SETTINGS = {
    "learning_rate": 1e-3, "max_steps": 60, "per_device_train_batch_size": 32, "max_length": 32, "warmup_steps": 10,
    "lr_scheduler_type": "cosine", "logging_steps": 1, "save_steps": 20,
}  # fmt: skip
FAST = {**SETTINGS, "learning_rate": 5e-3}
LORA = {"lora_r": 32, "lora_alpha": 64}
JOBS: dict[str, dict[str, Any]] = {
    "dpo": {
        "dataset": {"path": "pairs.jsonl"}, "method": {**SETTINGS, "eval_steps": 30},
        "gates": {"preference_accuracy": "> 0.5"},  # what is waited for longest trains first: this and the reward model
    },
    "reward": {"dataset": {"path": "pairs.jsonl"}, "method": FAST, "adapter": {"name": "lora", **LORA}, "merge": True},
    "kto": {
        "dataset": {"path": "rated.jsonl"}, "method": FAST,
        "adapter": {"name": "rslora", "lora_r": 32, "lora_alpha": 12},  # divided by the root of the rank
    },
    "orpo": {
        "dataset": {"path": "pairs.jsonl"}, "method": {**FAST, "eval_steps": 60}, "adapter": {"name": "dora", **LORA},
        "merge": True,
    },
    "sft": {
        "dataset": {"path": "right.jsonl"}, "method": {**FAST, "max_steps": 30}, "adapter": {"name": "qlora"},
        "merge": True,
    },
    "pretrain": {"dataset": {"path": "notes.jsonl"}, "method": {**SETTINGS, "max_steps": 30}},
}  # fmt: skip
COMPARED = [job for job in JOBS if job != "sft"]
"""Jobs whose losses are compared with plain trl; `base` is trained by the same method."""
EVALUATIONS = {
    "pretrain": "loss", "sft": "loss", "dpo": "preference_accuracy", "kto": "label_auc", "reward": "reward_accuracy",
}  # fmt: skip


def write_rows(workspace: Workspace) -> None:
    generator = random.Random(7)
    prompts = list(permutations("0123456789", 4))
    generator.shuffle(prompts)
    wrong = {p: generator.choice([digit for digit in p if digit != max(p)]) for p in prompts}
    rated = [(p, generator.random() < 0.5) for p in prompts]
    files: dict[str, list[dict[str, Any]]] = {
        "any.jsonl": [{"prompt": " ".join(p), "response": generator.choice(p)} for p in prompts[:2500]],
        "pairs.jsonl": [{"prompt": " ".join(p), "chosen": max(p), "rejected": wrong[p]} for p in prompts],
        "rated.jsonl": [
            {"prompt": " ".join(p), "completion": max(p) if wanted else wrong[p], "label": wanted}
            for p, wanted in rated
        ],
        "right.jsonl": [{"prompt": " ".join(p), "response": max(p)} for p in prompts],
        "notes.jsonl": [{"text": f"The largest of {' '.join(p)} is {max(p)}."} for p in prompts],
    }
    for name, rows in files.items():
        workspace.write(name, "".join(json.dumps(row) + "\n" for row in rows))


def write_recipe(workspace: Workspace, name: str, jobs: dict[str, dict[str, Any]]) -> None:
    """Write a recipe of jobs, each named after its method (`base` is sft)."""
    choices = [{"override /hardware": "cpu"}, "_self_"]
    for job in reversed(jobs):
        kind = {"dpo": "preference_jsonl", "orpo": "preference_jsonl", "reward": "preference_jsonl"}.get(job, "jsonl")
        choices[:0] = [
            {f"/dataset@jobs.{job}.dataset": kind},
            {f"/method@jobs.{job}.method": "sft" if job == "base" else job},
            *([{f"/evaluation@jobs.{job}.evaluation": EVALUATIONS[job]}] if job in EVALUATIONS else []),
            {f"/adapter@jobs.{job}.adapter": jobs[job].get("adapter", {}).get("name", "none")},
            *([{f"/model@jobs.{job}.model": "tiny_general"}] if job == "base" else []),
        ]
    recipe = {"defaults": choices, "name": name, "jobs": jobs}
    workspace.write(f"recipes/{name}.yaml", f"# @package _global_\n{yaml.safe_dump(recipe, sort_keys=False)}")


def lora(adapter: dict[str, Any]) -> dict[str, Any]:
    """Return peft's settings of an adapter."""
    flags = {f"use_{name}": True for name in ("rslora", "dora") if adapter["name"] == name}
    return {"r": adapter["lora_r"], "lora_alpha": adapter["lora_alpha"], **flags}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A working directory in which a base and all methods have run, with a kill in between."""
    workspace = Workspace(tmp_path_factory.mktemp("digits"))
    write_rows(workspace)
    small = {
        "architecture": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 2, "vocab_size": 300},
        "tokenizer": {"vocab_size": 300},
    }
    base = {
        "model": small, "dataset": {"path": "any.jsonl", "heldout_fraction": 0},
        "method": {**SETTINGS, "learning_rate": 3e-3, "max_steps": 300, "save_steps": 1000},
    }  # fmt: skip
    jobs = {
        name: {"model": {"ref": "job:base"}, **job, "dataset": {**job["dataset"], "heldout_fraction": 0.1}}
        for name, job in JOBS.items()
    }
    write_recipe(workspace, "digits", {"base": base, **jobs})
    process = workspace.start("+recipe=digits")
    seal = "checkpoints/checkpoint-20/largeforge-checkpoint.json"

    def is_under_way(job: str) -> bool:
        assert process.poll() is None, workspace.output
        return bool(list(workspace.path.glob(f"runs/digits/*/{job}.train/work/{seal}")))

    wait_for(lambda: all(is_under_way(job) for job in KILLED), timeout_s=600)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not processes("largeforge.stages", str(workspace.path)))
    result = workspace.run("+recipe=digits")
    assert result.returncode == 0, result.stdout + result.stderr
    return workspace


def judged(workspace: Workspace, job: str) -> dict[str, float]:
    metrics: dict[str, float] = workspace.manifest("digits", f"{job}.evaluate")["metrics"]
    return metrics


def losses(workspace: Workspace, recipe: str, job: str) -> dict[int, float]:
    steps = events(workspace, recipe, f"{job}.train", "progress")
    return {event["step"]: event["loss"] for event in steps if "loss" in event}


def events(workspace: Workspace, recipe: str, stage: str, kind: str) -> list[dict[str, Any]]:
    lines = (workspace.run_dir(recipe) / "events.jsonl").read_text().splitlines()
    return [event for line in lines if (event := json.loads(line))["stage"] == stage and event["kind"] == kind]


def test_the_right_answer_becomes_the_likelier_one(digits: Workspace) -> None:
    metrics = judged(digits, "dpo")
    assert 0.4 < metrics["base.preference_accuracy"] < 0.65
    assert metrics["preference_accuracy"] > 0.85


def test_orpo_prefers_the_right_answer_to_held_out_prompts(digits: Workspace) -> None:
    (event,) = events(digits, "digits", "orpo.train", "eval")
    assert event["metrics"]["eval_rewards/accuracies"] > 0.85


def test_kto_learns_from_single_answers_what_is_wanted(digits: Workspace) -> None:
    metrics = judged(digits, "kto")
    assert 0.4 < metrics["base.label_auc"] < 0.65
    assert metrics["label_auc"] > 0.85


def test_a_reward_model_ranks_answers_and_is_beside_chance(digits: Workspace) -> None:
    metrics = judged(digits, "reward")
    assert metrics["base.reward_accuracy"] == 0.5
    assert metrics["reward_accuracy"] > 0.95
    merged = digits.run_dir("digits") / "reward.merge" / "out"
    assert json.loads((merged / "config.json").read_text())["architectures"] == ["Qwen2ForSequenceClassification"]
    with safe_open(merged / "model.safetensors", framework="numpy") as merged_weights:
        assert "score.weight" in merged_weights.keys()  # noqa: SIM118 - it is no mapping


def test_adapters_of_every_kind_stand_on_one_base_and_can_be_merged(digits: Workspace) -> None:
    folder = digits.run_dir("digits")
    written = {
        job: json.loads((folder / f"{job}.train/out/adapter_config.json").read_text())
        for job, content in JOBS.items()
        if "adapter" in content
    }
    assert {job: (found["use_rslora"], found["use_dora"]) for job, found in written.items()} == {
        "reward": (False, False), "kto": (True, False), "orpo": (False, True), "sft": (False, False),
    }  # fmt: skip
    base = folder / "base.train/out"
    assert {Path(found["base_model_name_or_path"]).resolve() for found in written.values()} == {base.resolve()}
    for job in ("orpo", "sft"):
        merged = folder / f"{job}.merge/out"
        assert "quantization_config" not in json.loads((merged / "config.json").read_text())
        assert (merged / "model.safetensors").stat().st_size == (base / "model.safetensors").stat().st_size
    assert judged(digits, "sft")["vs_base.loss"] < -0.1


def test_continued_pretraining_lowers_the_loss_of_the_texts(digits: Workspace) -> None:
    metrics = judged(digits, "pretrain")
    assert metrics["vs_base.loss"] < -1


def test_held_out_rows_are_looked_at_during_training(digits: Workspace) -> None:
    found = events(digits, "digits", "dpo.train", "eval")
    assert [event["step"] for event in found] == [30, 60]
    first, last = (event["metrics"] for event in found)
    assert last["eval_loss"] < first["eval_loss"]
    assert last["eval_rewards/accuracies"] > 0.85


def test_every_method_has_the_losses_of_a_plain_trl_script_that_nobody_kills(digits: Workspace) -> None:
    run = digits.run_dir("digits")
    planned = {stage["name"]: stage for stage in json.loads((run / "plan.json").read_text())["stages"]}
    jobs = []
    for job in ("base", *COMPARED):
        config, threads = (planned[f"{job}.train"][key] for key in ("config", "threads"))
        settings = {key: config["method"][key] for key in SETTINGS if key not in ("save_steps", "logging_steps")}
        jobs.append({
            "name": job, "method": "sft" if job == "base" else job, "settings": {**settings, "seed": config["seed"]},
            "model": str(run / ("base.init" if job == "base" else "base.train") / "out"), "threads": threads,
            "rows": str(run / f"{job}.prepare" / "out" / "train.jsonl"),
            "lora": lora(JOBS[job]["adapter"]) if "adapter" in JOBS.get(job, {}) else {},
            "steps": settings["max_steps"] if job in KILLED else STEPS,
        })  # fmt: skip
    spec, answer = digits.write("plain.json", json.dumps(jobs)), digits.path / "losses.json"
    surroundings = {**environment(), "TRL_EXPERIMENTAL_SILENCE": "1"}
    command = [sys.executable, str(PLAIN), str(spec), str(answer)]
    result = subprocess.run(command, env=surroundings, cwd=digits.path, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stderr
    plain = json.loads(answer.read_text())
    ours = {job: losses(digits, "digits", job) for job in plain}
    assert {job: [ours[job][step] for step in range(1, len(plain[job]) + 1)] for job in plain} == plain


@pytest.mark.parametrize("job", KILLED)
def test_a_killed_training_had_gone_on_from_a_checkpoint(digits: Workspace, job: str) -> None:
    notes = [event["text"] for event in events(digits, "digits", f"{job}.train", "note")]
    assert any(text.startswith("continuing from checkpoint-") for text in notes), notes
