"""What a training tells of itself, as short phrases that the live view and the plain lines share."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from largeforge.console.text import clock, count, dollars, number

if TYPE_CHECKING:
    from largeforge.console.board import Stage

_SHOWN_OF_METHOD = ("rewards/accuracies", "accuracy", "reward", "kl")
"""The figure of a method that people look at first, the best known name first."""


class Phrase(NamedTuple):
    """A name and its value; either may be empty."""

    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.name} {self.value}".strip()


def learning(stage: Stage) -> list[Phrase]:
    """Return how far the model is: held-out loss, learning rate, gradient norm, the method's own figure."""
    found = []
    if "loss" in stage.heldout:
        found.append(Phrase("held out", f"{number(stage.heldout['loss'])} at {stage.heldout_step:g}"))
    for key, name in (("learning_rate", "lr"), ("grad_norm", "grad norm")):
        if key in stage.figures:
            found.append(Phrase(name, number(stage.figures[key])))
    own = next((name for name in _SHOWN_OF_METHOD if name in stage.metrics), "")
    return [*found, Phrase(own, number(stage.metrics[own]))] if own else found


def machine(stage: Stage) -> list[Phrase]:
    """Return how busy the hardware is: speed, utilization, memory."""
    figures, found = stage.figures, []
    if stage.tokens_per_s is not None:
        found.append(Phrase("", f"{count(stage.tokens_per_s)} tok/s"))
    if "mfu" in figures:
        found.append(Phrase("MFU", percent(figures["mfu"])))
    if "gpu_utilization" in figures:
        found.append(Phrase("GPU", percent(figures["gpu_utilization"])))
    if "memory_gib" in figures:
        usable = f" of {gib(figures['usable_memory_gib'])}" if figures.get("usable_memory_gib") else ""
        found.append(Phrase("memory", f"{gib(figures['memory_gib'])}{usable} GiB"))
    return found


def time_and_cost(stage: Stage, now: float) -> list[Phrase]:
    """Return time and cost so far, all attempts together, the cost to come, and the last checkpoint."""
    figures = stage.figures
    so_far = figures.get("seconds_so_far")
    spent = (so_far + now - stage.seen) if so_far is not None else now - stage.since
    found = [Phrase("so far", ", ".join([clock(spent), *_money(figures.get("cost_usd"))]))]
    to_go = [Phrase("to go", dollars(figures["cost_left_usd"]))] if "cost_left_usd" in figures else []
    return [*found, *to_go, *saved(stage)]


def cost(stage: Stage) -> list[Phrase]:
    """Return the cost so far and to go, where an hour has a price."""
    if "cost_usd" not in stage.figures:
        return []
    left = stage.figures.get("cost_left_usd")
    more = f" of {dollars(stage.figures['cost_usd'] + left)}" if left else ""
    return [Phrase("", f"{dollars(stage.figures['cost_usd'])}{more}")]


def saved(stage: Stage) -> list[Phrase]:
    """Return which step was saved last, and which is the best so far."""
    if stage.checkpoint is None:
        return []
    best = ""
    if stage.best_checkpoint is not None:
        best = " (best)" if stage.best_checkpoint == stage.checkpoint else f" (best {stage.best_checkpoint:g})"
    return [Phrase("saved", f"{stage.checkpoint:g}{best}")]


def summary(stage: Stage) -> list[str]:
    """Return what is left to say of a training that has ended."""
    heldout = [Phrase("held out", number(stage.heldout["loss"]))] if "loss" in stage.heldout else []
    steps = [Phrase("", f"{stage.step:g} steps")] if stage.step is not None else []
    spent = [Phrase("", dollars(stage.figures["cost_usd"]))] if "cost_usd" in stage.figures else []
    speed = [phrase for phrase in machine(stage) if phrase.name in ("", "MFU")]
    return [str(phrase) for phrase in (Phrase("loss", stage.loss), *heldout, *steps, *speed, *spent)]


def percent(share: float) -> str:
    """Return a share as a percentage of two digits or more: 41%, 0.3%."""
    return f"{share * 100:.0f}%" if share >= 0.0995 or not share else f"{share * 100:.2g}%"


def gib(size: float) -> str:
    """Return a size in GiB, without the unit."""
    return f"{size:.1f}" if size >= 1 else f"{size:.2f}"


def _money(amount: float | None) -> list[str]:
    return [] if amount is None else [dollars(amount)]
