"""The numbers that are looked at in the events of a training."""

from __future__ import annotations

from typing import Any

from largeforge.console.text import clean, finite

_NOT_MEASURED = {
    "runtime", "samples_per_second", "steps_per_second", "tokens_per_second", "epoch", "num_tokens",
    "num_input_tokens_seen", "model_preparation_time",
}  # fmt: skip
"""What transformers adds to metrics, without its prefix, that says nothing of the model."""


def heldout_metrics(metrics: object) -> dict[str, float]:
    """Return the finite metrics of an `eval` event by their plain names, the loss first."""
    if not isinstance(metrics, dict):
        return {}
    plain = {clean(name).removeprefix("eval_"): finite(value) for name, value in metrics.items()}
    known = {name: value for name, value in plain.items() if value is not None and name not in _NOT_MEASURED}
    return {name: known[name] for name in sorted(known, key=lambda name: (name != "loss", name))}


def own_metrics(metrics: object) -> dict[str, float]:
    """Return the finite figures of the method itself in a `progress` event."""
    given = metrics.items() if isinstance(metrics, dict) else ()
    plain = {clean(name): finite(value) for name, value in given}
    return {
        name: value
        for name, value in plain.items()
        if value is not None and name.removeprefix("train_") not in _NOT_MEASURED
    }


def figures(event: dict[str, Any]) -> dict[str, float]:
    """Return the finite numbers of a progress event that are shown as they are."""
    names = (
        "learning_rate", "grad_norm", "mfu", "gpu_utilization", "memory_gib", "usable_memory_gib", "seconds_so_far",
        "cost_usd", "cost_left_usd",
    )  # fmt: skip
    return {name: value for name in names if (value := finite(event.get(name))) is not None}
