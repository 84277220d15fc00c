"""Every adapter trains, is judged and merged, several of them on one base."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.e2e.test_training import rows

if TYPE_CHECKING:
    from tests.e2e.workspace import Workspace

RECIPE = """\
# @package _global_
# A base from nothing, and an adapter of each kind on it.
defaults:
  - /model@jobs.base.model: tiny_general
  - /dataset@jobs.base.dataset: jsonl
  - /method@jobs.base.method: sft
  - /adapter@jobs.base.adapter: none
  - /dataset@jobs.rslora.dataset: jsonl
  - /method@jobs.rslora.method: sft
  - /adapter@jobs.rslora.adapter: rslora
  - /dataset@jobs.dora.dataset: jsonl
  - /method@jobs.dora.method: sft
  - /adapter@jobs.dora.adapter: dora
  - /dataset@jobs.qlora.dataset: jsonl
  - /method@jobs.qlora.method: sft
  - /adapter@jobs.qlora.adapter: qlora
  - /evaluation@jobs.qlora.evaluation: loss
  - override /hardware: cpu
  - _self_
name: adapters
jobs:
  base:
    model:
      architecture: {hidden_size: 64, intermediate_size: 128, num_hidden_layers: 2, vocab_size: 400}
      tokenizer: {vocab_size: 400}
    dataset: &data {path: words.jsonl, heldout_fraction: 0.1}
    method: {max_steps: 20, learning_rate: 1e-2, completion_only_loss: false}
  rslora:
    model: &base {name: base, ref: "job:base"}
    dataset: *data
    method: &method {max_steps: 30, learning_rate: 1e-2, logging_steps: 5}
  dora:
    model: *base
    dataset: *data
    method: *method
    merge: true
  qlora:
    model: *base
    dataset: *data
    method: *method
    merge: true
    gates: {vs_base.loss: "< -0.1"}
"""


def test_every_adapter_learns_on_one_base_and_can_be_merged(workspace: Workspace) -> None:
    workspace.write("recipes/adapters.yaml", RECIPE)
    workspace.write("words.jsonl", rows())
    result = workspace.run("+recipe=adapters")
    assert result.returncode == 0, result.stdout + result.stderr
    folder = workspace.run_dir("adapters")
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    for job in ("rslora", "dora", "qlora"):
        losses = [e["loss"] for e in events if e["stage"] == f"{job}.train" and e["kind"] == "progress"]
        assert losses[-1] < losses[0] * 0.8, job
        written = json.loads((folder / f"{job}.train" / "out" / "adapter_config.json").read_text())
        assert (written["use_rslora"], written["use_dora"]) == (job == "rslora", job == "dora")
    for job in ("dora", "qlora"):
        merged = folder / f"{job}.merge" / "out"
        assert (merged / "model.safetensors").stat().st_size == (
            folder / "base.train/out/model.safetensors"
        ).stat().st_size
        assert "quantization_config" not in json.loads((merged / "config.json").read_text())
