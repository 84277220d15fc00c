"""Memory of training: what one GPU holds at each moment of a step, and so at the worst.

Gradients and activations do not live at the same time: those of the last layer's weights appear while most
activations still wait, those of the first layer's when nearly all are gone. So the backward pass is looked
at where it starts, where it ends, and at the loss between forward and backward.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.estimate.activations import Layer, layer, masked_values
from largeforge.estimate.inference import frozen_layer_bytes, generation_parts
from largeforge.estimate.loss import loss_bytes
from largeforge.estimate.memory import Memory, bytes_per_value
from largeforge.estimate.overhead import lost_bytes, process_bytes
from largeforge.estimate.states import States, states

if TYPE_CHECKING:
    from largeforge.estimate.load import TrainingLoad


def training_memory(load: TrainingLoad) -> Memory:
    """Return what a training needs on each GPU, for each moment of a step.

    Raises ValueError for an optimizer that is not known here.
    """
    held, one = states(load), layer(load)
    waiting = _waiting(load, one)
    steady = {
        "weights": held.weights, "adapter": held.adapter, "optimizer": held.optimizer, "reference": held.reference,
        "overhead": process_bytes(load.device),
    }  # fmt: skip
    before = held.gradients if load.accumulation > 1 else held.buckets
    phases = {
        "loss": _moment(before, waiting + _final_norm(load), loss_bytes(load)),
        "backward starts": _moment(max(before, held.head_gradient), waiting + _running(load, one)),
        "backward ends": _moment(_late(held, before), _last(load, one)),
        "embedding": _moment(held.gradients + held.embedding_again, load.tokens * _hidden(load)),
        "optimizer step": _moment(held.gradients + held.step_scratch, 0.0),
    }
    if load.method.reference or load.method.teacher:
        kept = waiting + _final_norm(load)
        teacher = load.method.teacher
        other = frozen_layer_bytes(teacher, load.tokens, bytes_per_value(load.compute)) if teacher else 0.0
        phases["reference layers"] = _moment(before, kept + max(one.frozen, other))
        phases["reference loss"] = _moment(before, kept, loss_bytes(load, forward_only=True))
    if load.method.completion_length:
        phases["generation"] = _generation(load)
    return Memory({name: _with(steady, parts, load) for name, parts in phases.items()})


def _moment(gradients: float, activations: float, logits: float = 0.0) -> dict[str, float]:
    return {"gradients": gradients, "activations": activations, "logits": logits}


def _with(steady: dict[str, float], parts: dict[str, float], load: TrainingLoad) -> dict[str, float]:
    lost = lost_bytes(load.device, sum(parts.values()))
    return {**steady, **parts, "overhead": steady["overhead"] + lost}


def _generation(load: TrainingLoad) -> dict[str, float]:
    """Return what answering needs: trl generates those of all the forward passes of a step at once."""
    new_tokens = min(load.method.completion_length, load.length - 1)
    return generation_parts(
        load.shape, sequences=load.sequences * load.accumulation, prompt=load.length - new_tokens,
        new_tokens=new_tokens, size=bytes_per_value(load.compute),
    )  # fmt: skip


def _hidden(load: TrainingLoad) -> float:
    return load.shape.hidden_size * bytes_per_value(load.compute)


def _waiting(load: TrainingLoad, one: Layer) -> float:
    """Return what all layers keep between the forward and the backward pass."""
    if not load.checkpointing:
        return load.shape.layers * one.kept
    return load.shape.layers * one.input + masked_values(load)


def _running(load: TrainingLoad, one: Layer) -> float:
    """Return what the layer whose turn it is needs: with checkpointing, all that it would have kept."""
    return (one.kept if load.checkpointing else 0.0) + one.backward


def _last(load: TrainingLoad, one: Layer) -> float:
    first_inputs = one.input + masked_values(load) if load.checkpointing else 0.0
    return first_inputs + one.kept + one.backward


def _late(held: States, before: float) -> float:
    """Return the gradients when the first layer's turn has come; its own are the last."""
    return max(before, held.gradients - held.last_gradients)


def _final_norm(load: TrainingLoad) -> float:
    """Return what the norm before the output head keeps: its input in fp32, the normalized values, its output."""
    size = bytes_per_value(load.compute)
    return load.tokens * load.shape.hidden_size * (4 + (2 * size if load.adapter.trains_all else 0))
