"""What lies in memory for the whole of a training: weights, adapter, optimizer states, and the gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from largeforge.estimate.adapters import adapter_parameters, base_bytes, targets
from largeforge.estimate.memory import bytes_per_value
from largeforge.estimate.optimizers import optimizer
from largeforge.estimate.sharding import ZERO3_LIVE, ZERO_BUCKET

if TYPE_CHECKING:
    from largeforge.estimate.load import TrainingLoad


@dataclass(frozen=True)
class States:
    """Bytes on one GPU."""

    weights: float
    """With the layers that are gathered from other GPUs at a time."""
    adapter: float
    optimizer: float
    reference: float
    gradients: float
    """All of them, at the end of the backward pass."""
    head_gradient: float
    """Those that exist when the backward pass of the last layer begins."""
    last_gradients: float
    """Those that do not yet when the first layer's is at its worst: of its own layers but one, of an embedding."""
    embedding_again: float
    """The second gradient of an embedding that is also the head, before it is added to the first."""
    buckets: float
    """Buffers for gradients on their way between GPUs, for the whole training."""
    step_scratch: float


def states(load: TrainingLoad) -> States:
    """Return what a training holds; raises ValueError for an optimizer that is not known here."""
    shape, sharding, adapter = load.trained_shape, load.sharding, load.adapter
    own, each = bytes_per_value(load.weights), _trained_bytes(load)
    trained = shape.parameters if adapter.trains_all else adapter_parameters(shape, adapter)
    words = shape.vocab_size * shape.hidden_size
    head = words * each if adapter.trains_all and load.method.logits != "none" else 0.0
    gradient = trained * (2 if sharding.is_zero else each) * sharding.gradients_share
    buckets = _buckets(load, trained * each)
    weights = base_bytes(shape, adapter, own if not adapter.trains_all else each)
    if sharding.offload == "all":
        weights = 0.0
    return States(
        weights=weights * sharding.weights_share + _gathered(load),
        adapter=0.0 if adapter.trains_all else _adapter_bytes(load, trained, each),
        optimizer=_optimizer_bytes(load, trained, each),
        reference=_reference(load),
        gradients=gradient + buckets,
        head_gradient=head * sharding.gradients_share + buckets,
        last_gradients=_last_gradients(load, each) * sharding.gradients_share,
        embedding_again=head * sharding.gradients_share if load.head_is_embedding else 0.0,
        buckets=buckets,
        step_scratch=optimizer(load.optimizer).scratch * trained * each * sharding.optimizer_share,
    )


def _trained_bytes(load: TrainingLoad) -> float:
    """Return the bytes of one trained parameter.

    peft keeps adapters in fp32 on a model in bf16 (`autocast_adapter_dtype`), trl casts those of a quantized model to
    bf16; accelerate upcasts what FSDP2 trains to fp32 (`fsdp2_prepare_model`).
    """
    if load.sharding.strategy == "fsdp2" and load.adapter.base_weights == "as_precision":
        return 4
    if load.adapter.trains_all:
        return bytes_per_value(load.weights)
    return 2 if load.adapter.base_weights == "nf4" else 4


def _adapter_bytes(load: TrainingLoad, trained: float, each: float) -> float:
    """Return the adapter's weights; autocast's bf16 copies of them are kept as long as the layers' activations are."""
    return trained * (each + (2 if load.casts_adapter and not load.checkpointing else 0))


def _optimizer_bytes(load: TrainingLoad, trained: float, each: float) -> float:
    sharding, kind = load.sharding, optimizer(load.optimizer)
    if sharding.offload != "none":
        return 0.0
    per_parameter = kind.values * each + kind.fixed_bytes
    if sharding.is_zero:
        # the weights again and their states, all in fp32: K = 12 for Adam (Rajbhandari et al., section 3.1)
        return trained * (4 + 4 * kind.values + kind.fixed_bytes) * sharding.optimizer_share
    whole = trained * per_parameter
    if kind.full_embedding and load.adapter.trains_all:
        whole += load.shape.embedding_parameters * (4 * round(kind.fixed_bytes) - kind.fixed_bytes)
    return whole * sharding.optimizer_share


def _last_gradients(load: TrainingLoad, each: float) -> float:
    """Return the gradients of the first layer but those of its MLP's last product, and of an untied embedding."""
    shape, adapter = load.shape, load.adapter
    if adapter.trains_all:
        later = sum(linear.parameters / shape.layers for linear in shape.linears if linear.name != "down_proj")
        return each * (later + (0 if load.head_is_embedding else shape.embedding_parameters))
    adapted = [linear for linear in targets(shape, adapter) if linear.name != "down_proj"]
    return each * adapter.rank * sum(one.count * (one.inputs + one.outputs) for one in adapted) / shape.layers


def _reference(load: TrainingLoad) -> float:
    """Return the bytes of a further models: a teacher, reward models, the copy that full training compares with."""
    method, share = load.method, load.sharding.weights_share
    found = 0.0
    if method.reference and load.adapter.trains_all:
        found += load.shape.parameters * bytes_per_value(load.weights) * share
    if method.teacher:
        found += method.teacher.parameters * bytes_per_value(method.teacher_weights) * share
    found += sum(shape.parameters for shape in method.others) * bytes_per_value(load.weights)
    return found


def _gathered(load: TrainingLoad) -> float:
    """Return the weights that a GPU has gathered at a time.

    FSDP2: the layer that runs and the next one, and the root (embedding, head, last norm), which stays gathered
    (PyTorch `fully_shard`: implicit prefetch, `reshard_after_forward` of the root). ZeRO-3: its `ZERO3_LIVE`.
    """
    shape, sharding = load.shape, load.sharding
    if sharding.weights_share == 1 and sharding.offload != "all":
        return 0.0
    size = bytes_per_value(load.compute)
    layer = sum(linear.parameters for linear in shape.linears) / shape.layers
    if sharding.strategy == "zero3":
        return size * min(ZERO3_LIVE, shape.parameters)
    return size * (2 * layer + shape.embedding_parameters + shape.head_parameters)


def _buckets(load: TrainingLoad, gradient_bytes: float) -> float:
    """Return the buffers in which gradients travel.

    DDP: a copy of all gradients (PyTorch `DistributedDataParallel`, `gradient_as_bucket_view=False`). FSDP2: those of a
    layer, whole, and their copy for reduce-scatter. ZeRO: a bucket that fills, one that travels (`overlap_comm`).
    """
    shape, sharding = load.shape, load.sharding
    if sharding.gpus == 1 or sharding.strategy == "none":
        return 0.0
    if sharding.strategy == "ddp":
        return gradient_bytes
    share = gradient_bytes / max(shape.parameters, 1)
    if sharding.strategy == "fsdp2":
        layer = sum(linear.parameters for linear in shape.linears) / shape.layers
        return share * 2 * (layer + shape.embedding_parameters + shape.head_parameters)
    return 2 * min(2 * ZERO_BUCKET, gradient_bytes)
