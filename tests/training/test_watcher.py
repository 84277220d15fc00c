"""What a training tells again after an attempt whose last words nobody heard."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from largeforge.events import Events
from largeforge.stages.context import Context
from largeforge.training import watcher

HISTORY = [
    {"step": 20, "loss": 2.0, "epoch": 0.5},
    {"step": 30, "loss": 1.5, "epoch": 0.75},
    {"step": 30, "eval_loss": 1.7, "epoch": 0.75},
]


def told_again(recorded: dict[str, int]) -> list[tuple[str, int]]:
    stream = io.StringIO()
    context = Context("train", {}, Path(), Path(), Events("train", stream), "lock", recorded)
    state = SimpleNamespace(global_step=30, max_steps=40, num_input_tokens_seen=0, log_history=HISTORY)
    watching: Any = watcher.callback(context, device="cpu")
    watching.on_train_begin(None, state, None)
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [(event["kind"], event["step"]) for event in events]


def test_what_nobody_heard_of_is_told_again_and_nothing_else() -> None:
    assert told_again({"progress": 20}) == [("progress", 30), ("eval", 30)]
    assert told_again({"progress": 30}) == [("eval", 30)], "the runner died between a report and the evaluation"
    assert told_again({"progress": 30, "eval": 30}) == []
