"""Train with plain trl and print the loss of each step: `python plain SPEC.json`, nothing of LargeForge.

The spec is a list of {"method", "model", "rows", "settings", "lora", "threads", "steps"}; the training of one
method after the other stops after `steps` steps of the schedule that `settings` describe.
"""

import importlib
import json
import sys
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig
from transformers import TrainerCallback


class Stop(TrainerCallback):
    def __init__(self, steps):
        self.steps = steps

    def on_step_end(self, args, state, control, **_):
        control.should_training_stop = state.global_step >= self.steps


def losses(job, folder):
    torch.set_num_threads(job["threads"])
    rows = [json.loads(line) for line in Path(job["rows"]).read_text().splitlines()]
    rows = [{key: value for key, value in row.items() if key != "source"} for row in rows]
    settings = {
        **job["settings"], "output_dir": folder, "logging_steps": 1, "save_strategy": "no", "report_to": "none",
        "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "disable_tqdm": True,
    }  # fmt: skip
    lora = job["lora"]
    adapter = LoraConfig(**lora, target_modules="all-linear", task_type="CAUSAL_LM") if lora else None
    trainer = importlib.import_module(job["method"]).trainer(job["model"], rows, settings, adapter)
    trainer.add_callback(Stop(job["steps"]))
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


with tempfile.TemporaryDirectory() as folder:
    found = {job["name"]: losses(job, folder) for job in json.loads(Path(sys.argv[1]).read_text())}
Path(sys.argv[2]).write_text(json.dumps(found))
