"""The shape of a decoder-only transformer, from the fields of its `config.json`.

Everything else in this package is computed from a `Shape`: its linear layers with their widths
give parameters, LoRA sizes, floating-point operations and activations alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Linear:
    """One kind of linear layer, counted over the whole model."""

    name: str
    """Module name as transformers has it, for example `q_proj`; what LoRA targets by name."""
    inputs: int
    outputs: int
    count: int
    """How many there are in the model (layers, times experts for those of a mixture)."""
    bias: bool = False
    active: int = 0
    """How many of them a token passes through; 0 means all."""

    @property
    def parameters(self) -> int:
        """Weights and biases of all of them."""
        return self.count * (self.inputs * self.outputs + (self.outputs if self.bias else 0))


@dataclass(frozen=True)
class Shape:
    """Widths and counts of a decoder-only transformer, dense or a mixture of experts."""

    model_type: str
    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    tied: bool
    """Whether the output head is the embedding."""
    linears: tuple[Linear, ...]
    """All linear layers except the output head."""
    other_parameters: int
    """Norms, sinks and whatever else is neither a linear layer nor the embedding or head."""
    mlp_width: int
    """Intermediate width that one token sees in a layer: all its active experts together."""
    experts: int = 0
    experts_per_token: int = 0
    window: int = 0
    """Sliding attention window in tokens; 0 for none."""
    window_layers: int = 0
    """Layers that use the window."""
    max_positions: int = 0
    """Longest context in tokens."""

    @property
    def parameters(self) -> int:
        """All parameters; a tied head is counted once."""
        linear = sum(layer.parameters for layer in self.linears)
        return linear + self.other_parameters + self.embedding_parameters + self.head_parameters

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the token embedding."""
        return self.vocab_size * self.hidden_size

    @property
    def head_parameters(self) -> int:
        """Parameters of the output head; 0 when it is the embedding."""
        return 0 if self.tied else self.vocab_size * self.hidden_size

    @property
    def active_parameters(self) -> int:
        """Parameters that one token is multiplied with, output head included, embedding look-up not."""
        linear = sum(layer.parameters * (layer.active or layer.count) // layer.count for layer in self.linears)
        return linear + self.other_parameters + self.vocab_size * self.hidden_size

    def kv_bytes_per_token(self, bytes_per_value: float) -> float:
        """Return the bytes of keys and values of one token over all layers, windows not considered."""
        return 2 * self.layers * self.kv_heads * self.head_dim * bytes_per_value


def shape(config: Mapping[str, Any], *, vocab_size: int = 0) -> Shape:
    """Return the shape that a `config.json` describes; `vocab_size` stands in where it has none.

    Raises ValueError for an architecture that is not known here, and for one with a field missing.
    """
    hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
    heads = int(config["num_attention_heads"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    head_dim = int(config.get("head_dim") or hidden // heads)
    width = int(config["intermediate_size"])
    linears = (
        Linear("q_proj", hidden, heads * head_dim, layers),
        Linear("k_proj", hidden, kv_heads * head_dim, layers),
        Linear("v_proj", hidden, kv_heads * head_dim, layers),
        Linear("o_proj", heads * head_dim, hidden, layers),
        Linear("gate_proj", hidden, width, layers),
        Linear("up_proj", hidden, width, layers),
        Linear("down_proj", width, hidden, layers),
    )
    return Shape(
        model_type=str(config["model_type"]), hidden_size=hidden, layers=layers, heads=heads, kv_heads=kv_heads,
        head_dim=head_dim, vocab_size=int(config.get("vocab_size") or vocab_size),
        tied=bool(config.get("tie_word_embeddings", False)), linears=linears,
        other_parameters=(2 * layers + 1) * hidden, mlp_width=width,
        max_positions=int(config.get("max_position_embeddings", 0)),
    )  # fmt: skip
