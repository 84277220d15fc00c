"""What a trainer has gathered since its last report, so that a training that continues reports the same numbers.

transformers begins the mean of the loss anew when it continues, trl that of its other figures, and trl's trainers
that generate (GRPO, distillation) forget the answers that they still have to learn from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_SUMS = ("_metrics", "_stored_metrics")
"""Attributes of trl's trainers: `{"train": {name: values since the last report}}`."""
_COUNTS = ("_total_train_tokens", "_step", "_buffered_inputs")
"""Attributes of trl's trainers that go on from their value."""


def save(trainer: Any, checkpoint: Path, rank: int) -> None:
    """Write what this process has gathered."""
    import torch

    own = vars(trainer)
    sums = {name: own[name]["train"] for name in _SUMS if name in own}
    state = {
        "loss": trainer._tr_loss.detach().cpu(),
        "reported": trainer._globalstep_last_logged,
        "sums": {name: {key: list(values) for key, values in found.items()} for name, found in sums.items()},
        "counts": {name: own[name] for name in _COUNTS if name in own and name != "_buffered_inputs"},
    }  # fmt: skip
    if _is_used_again(trainer):
        state["counts"]["_buffered_inputs"] = own["_buffered_inputs"]
    torch.save(state, checkpoint / _name(rank))


def restore(trainer: Any, checkpoint: Path, rank: int) -> None:
    """Let a trainer that has begun to train go on from what was saved."""
    import torch

    state = torch.load(checkpoint / _name(rank), weights_only=True, map_location=trainer.args.device)
    trainer._tr_loss = state["loss"].to(trainer.args.device)
    trainer._globalstep_last_logged = state["reported"]
    own = vars(trainer)
    for name, sums in state["sums"].items():
        own[name]["train"].update(sums)
    for name, value in state["counts"].items():
        setattr(trainer, name, value)


def _is_used_again(trainer: Any) -> bool:
    """Tell whether answers that were generated are still to be learnt from."""
    if getattr(trainer, "_buffered_inputs", None) is None:
        return False
    every = getattr(trainer.args, "steps_per_generation", None) or trainer.args.gradient_accumulation_steps
    return bool(trainer._step % (every * getattr(trainer, "num_iterations", 1)))


def _name(rank: int) -> str:
    return f"largeforge-running_{rank}.pt"
