"""A run directory with the events of a training that nobody ran, as trackers find it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.fakes import trained

RECIPE = {
    "name": "sft_qwen7b", "description": "Fine-tune a 7B model with LoRA", "seed": 42,
    "model": {"ref": "hub:Qwen/Qwen2.5-7B-Instruct", "license": "Apache-2.0", "architecture": None},
    "method": {"name": "sft", "learning_rate": 2e-5, "max_steps": 500, "packing": True},
    "adapter": {"name": "lora", "target_modules": ["q_proj", "v_proj"]}, "gates": {"exact_match": ">= 0.85"},
    "serving": {"extra": {"api-key": "hidden-key", "max-num-batched-tokens": 8192}},
    "registry": {"uri": "http://ann:hidden@mlflow.example:5000"},
}  # fmt: skip
STAGES = ("prepare", "train", "evaluate", "gate", "register")


def run_dir(root: Path, *events: dict[str, Any], recipe: dict[str, Any] | None = None) -> Path:
    """Leave a run below `root` and return its directory."""
    folder = root / "sft_qwen7b" / "20251121T015320-3f9ac2d1"
    (folder / "train" / "out").mkdir(parents=True)
    (folder / "lock.json").write_text(json.dumps({"digest": "3f9ac2d1b7e0", "recipe": recipe or RECIPE}))
    stages = [{"name": name, "kind": name, "job": "main"} for name in STAGES]
    (folder / "plan.json").write_text(json.dumps({"stages": stages}))
    (folder / "report.html").write_text("<html>report</html>")
    (folder / "train" / "out" / "README.md").write_text("# A model\n")
    write(folder, *events)
    return folder


def write(folder: Path, *events: dict[str, Any]) -> None:
    """Append events to a run."""
    with (folder / "events.jsonl").open("a") as stream:
        stream.writelines(json.dumps(event) + "\n" for event in events)


def whole() -> list[dict[str, Any]]:
    """Return the events of a run that went well."""
    return [trained.started(*STAGES), *trained.training(), *judged()]


def judged() -> list[dict[str, Any]]:
    """Return what comes after the last step."""
    metrics = {"exact_match": 0.92, "vs_base.exact_match": 0.8}
    return [
        trained.event("finished", 515, seconds=505.0, reused=False, metrics={"loss": 0.79, "tokens": 6.2e6}),
        trained.event("started", 516, "evaluate"),
        trained.event("progress", 520, "evaluate", step=10, total=300, unit="rows"),
        trained.event("finished", 540, "evaluate", seconds=24.0, reused=False, metrics=metrics),
        trained.event("gate", 541, "gate", metric="exact_match", condition=">= 0.85", value=0.92, passed=True),
        trained.event("run_finished", 545, "", seconds=545.0),
    ]
