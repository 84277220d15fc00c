"""What one decoder layer keeps for its backward pass, and what it needs beside that while it runs.

The terms are the tensors that autograd keeps in transformers' modeling files (eager code, PyTorch's own
attention kernels), read off `modeling_llama.py` and its relatives and checked by tracing real steps; see
docs/memory.md. Bytes are per GPU; widths are numbers per token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from largeforge.estimate.adapters import merged_expert_values, targets
from largeforge.estimate.families import FAMILIES, LLAMA
from largeforge.estimate.inference import frozen_layer_bytes
from largeforge.estimate.memory import bytes_per_value

if TYPE_CHECKING:
    from largeforge.estimate.families import Family
    from largeforge.estimate.load import TrainingLoad

_FP32 = 4
_FP32_NORM = ("gemma", "gemma2", "gemma3_text", "gpt_oss", "olmo2")
"""Families whose RMSNorm multiplies by its weight in fp32, and so keeps the normalized values in fp32."""
_EAGER = ("gpt_oss",)
"""Families with attention sinks: no fused kernel of PyTorch has them, so the scores are written out."""


@dataclass(frozen=True)
class Layer:
    """Bytes of one decoder layer, averaged over the layers of the model."""

    kept: float
    """From its forward pass until its backward pass, without checkpointing."""
    frozen: float
    """In a forward pass of which nothing is kept, of a reference or a teacher."""
    backward: float
    """Beside that while its backward pass runs, gradients of weights not counted."""
    input: float
    """What checkpointing keeps of it instead."""


def layer(load: TrainingLoad) -> Layer:
    """Return what a decoder layer of this training needs."""
    tokens, size = load.tokens, bytes_per_value(load.compute)
    widths = _Widths(load)
    mask = size * masked_values(load)
    merged = size * merged_expert_values(load.shape, load.adapter)
    kept = tokens * (widths.norms + widths.attention + widths.mlp + widths.adapter) + mask + widths.scores + merged
    hidden = size * load.shape.hidden_size
    return Layer(
        kept=kept,
        frozen=frozen_layer_bytes(load.shape, tokens, size) + 3 * widths.scores,
        backward=tokens * widths.backward + 3 * widths.scores + merged * 2 / 3,
        input=tokens * hidden,
    )


def masked_values(load: TrainingLoad) -> float:
    """Return the values of the attention mask that a layer's kernel takes, averaged over the layers.

    Rows of one length need none (`is_causal`), nor do windows longer than a row; a mask is made for padded
    rows, for packed ones (all rows in one, tokens × tokens) and for sliding windows
    (transformers `masking_utils.py`, `_ignore_causal_mask_sdpa` and `find_packed_sequence_indices`).
    """
    if load.rows == "packed":
        return float(load.tokens) ** 2
    values = float(load.sequences) * load.length**2
    if load.rows == "padded" and load.sequences > 1:
        return values
    return values * _windowed(load)


def _windowed(load: TrainingLoad) -> float:
    """Return the share of the layers whose window is shorter than a row."""
    shape = load.shape
    return shape.window_layers / shape.layers if 0 < shape.window <= load.length else 0.0


class _Widths:
    """Bytes per token of the parts of a layer."""

    def __init__(self, load: TrainingLoad):
        shape, self.load = load.shape, load
        self.family: Family = FAMILIES.get(shape.model_type, LLAMA)
        self.size = bytes_per_value(load.compute)
        self.hidden, self.mlp_width = shape.hidden_size, shape.mlp_width
        self.queries, self.keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.trained = load.adapter.trains_all
        self.fp32_norm = shape.model_type in _FP32_NORM
        self.routed = shape.experts_per_token * self.hidden if shape.experts else 0
        self.eager = shape.model_type in _EAGER

    @property
    def scores(self) -> float:
        """Bytes (not per token) of attention weights that are written out."""
        if not self.eager:
            return 0.0
        return self.size * self.load.sequences * self.load.shape.heads * float(self.load.length) ** 2

    @property
    def norm(self) -> float:
        """An RMSNorm of the hidden size, its output apart: the input in fp32 and, where the weight learns, the
        normalized values that it is multiplied with."""
        if not self.trained:
            return _FP32 * self.hidden
        return (_FP32 + (_FP32 if self.fp32_norm else self.size)) * self.hidden

    @property
    def norms(self) -> float:
        """All norms; the output of two of them feeds linear layers, which keep it where they learn."""
        outputs = 2 * self.size * self.hidden if self.trained else 0
        heads = self.norm / self.hidden * (self.queries + self.keys) if self.family.qk_norm else 0
        return self.family.norms * self.norm + outputs + heads

    @property
    def attention(self) -> float:
        """Queries and keys after rotation, values, output, and log-sum-exp of the attention kernel.

        With a mask, keys and values are repeated for every query head (`repeat_kv` in `sdpa_attention.py`); of a
        single one that is a view.
        """
        repeated = 1.0 if self._masked or self.eager else _windowed(self.load)
        repeated = repeated if self.load.shape.kv_heads > 1 else 0.0
        keys = self.keys + repeated * (self.queries - self.keys)
        fused = self.queries + self.keys if self.family.fused else 0
        return self.size * (2 * self.queries + 2 * keys + fused) + _FP32 * self.load.shape.heads

    @property
    def _masked(self) -> bool:
        return self.load.rows == "packed" or (self.load.rows == "padded" and self.load.sequences > 1)

    @property
    def mlp(self) -> float:
        """Gate, its activation, up, and their product where down_proj learns; experts: their inputs and outputs too."""
        return self.size * ((4 if self.trained or self.routed else 3) * self.mlp_width + 2 * self.routed)

    @property
    def adapter(self) -> float:
        """Inputs of the LoRA layers (a copy each where the adapter is fp32 and products are bf16) and r values each."""
        adapter, shape = self.load.adapter, self.load.shape
        if adapter.trains_all:
            return 0.0
        adapted = targets(shape, adapter)
        ranks = self.size * adapter.rank * sum(linear.count / shape.layers for linear in adapted)
        masks = sum(linear.inputs * linear.count / shape.layers for linear in adapted) if adapter.dropout else 0
        if self.load.casts_adapter or adapter.dropout:
            return ranks + masks + self.size * sum(linear.inputs * linear.count / shape.layers for linear in adapted)
        shared = {
            linear.inputs if linear.name == "down_proj" else linear.name[0] in "qkv"
            for linear in adapted
            if linear.name != "o_proj"
        }
        return ranks + self.size * sum(self.mlp_width if not isinstance(one, bool) else self.hidden for one in shared)

    @property
    def cast(self) -> float:
        """The widest LoRA layer's input in fp32, and what it was made from."""
        adapter, shape = self.load.adapter, self.load.shape
        inputs = [linear.inputs for linear in targets(shape, adapter)]
        if not inputs:
            return 0.0
        return ((_FP32 if self.load.casts_adapter else 0) + self.size) * max(inputs)

    @property
    def backward(self) -> float:
        """The most that is alive beside what was kept.

        All weights learn: in the MLP, whose three gradients of its width stand where the product stood, or in the
        norm behind it (Gemma), or where experts' outputs are scattered. LoRA: in down_proj, whose input is cast and
        copied while the layer's input, the MLP's input, the product and the gradient stand by.
        """
        residual = self.size * self.hidden
        routed = 3 * self.size * self.routed
        if not self.trained:
            return max(self.cast + 4 * residual, routed)
        mlp = 2 * self.size * self.mlp_width + residual
        norm = 4 * _FP32 * self.hidden + 2 * residual if self.family.norms == 4 else 0
        return max(mlp, norm, routed)
