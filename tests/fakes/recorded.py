"""A working directory with a recipe, and runs of it that were never run: real plans and locks, made-up results."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge import runs
from largeforge.artifacts import Manifest
from largeforge.planning import make_plan
from largeforge.recipe.compose import compose
from largeforge.recipe.validate import validate

if TYPE_CHECKING:
    from largeforge.plan import Plan

RECIPE = """\
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
dataset: {path: words.jsonl}
hardware: {cores: 2, memory_gib: 16}
gates: {loss: "< 9"}
register_as: small
"""


class Desk:
    """A working directory; `record` leaves a run as if a recipe had been run."""

    def __init__(self, path: Path):
        self.path = path
        (path / "recipes").mkdir()
        (path / "recipes" / "small.yaml").write_text(RECIPE)
        self.write_rows(3)

    def write_rows(self, count: int, name: str = "words.jsonl") -> None:
        """Write a data file."""
        (self.path / name).write_text("".join(f'{{"prompt": "p{row}", "response": "r"}}\n' for row in range(count)))

    def plan(self, *words: str) -> Plan:
        """Return the plan of the recipe with overrides."""
        composition = compose(["+recipe=small", *words])
        return make_plan(validate(composition), recipe_folder=composition.recipe_folder, packs=composition.packs)

    def record(self, *words: str, weights: bytes = b"w", lock: dict[str, Any] | None = None, **metrics: float) -> Path:
        """Leave a finished run of the recipe, and return its directory."""
        plan = self.plan(*words, "runs.resume=false")
        with runs.opened(plan) as run:
            for stage in plan.stages:
                self._finish(run, stage.name, stage.kind, stage.fingerprint, weights, metrics)
        if lock is not None:
            runs.artifacts.write_json(run.path / "lock.json", {**plan.lock, **lock})
        return run.path

    def _finish(
        self, run: runs.Run, name: str, kind: str, fingerprint: str, weights: bytes, metrics: dict[str, float]
    ) -> None:
        out = run.stage_dir(name) / "out"
        out.mkdir(parents=True)
        files = {}
        if kind in ("train", "merge"):
            (out / "model.safetensors").write_bytes(weights)
            entry = {"sha256": hashlib.sha256(weights).hexdigest(), "size": len(weights)}
            files = {"model.safetensors": entry}
        rows = len((self.path / "words.jsonl").read_text().splitlines())
        found = {"prepare": {"train_rows": float(rows), "heldout_rows": 0.0}, "evaluate": metrics}.get(kind, {})
        run.seal(Manifest(name, kind, fingerprint, "", files=files, metrics=found, seconds=1.0))
