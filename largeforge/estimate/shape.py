"""The shape of a decoder-only transformer, from the fields of its `config.json`.

Everything else in this package is computed from a `Shape`: its linear layers with their widths
give parameters, LoRA sizes, floating-point operations and activations alike.
"""

from __future__ import annotations

from dataclasses import dataclass

BYTES_PER_PARAMETER = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "mxfp4": 4.25 / 8}
"""Bytes of one weight by the format it is stored in. MXFP4: blocks of 32 numbers of 4 bits with a scale of
8 bits (OCP Microscaling Formats specification 1.0, section 5)."""


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
    is_linear: bool = True
    """Whether it is an `nn.Linear` module. The experts and routers of a mixture are bare parameters in
    transformers 5: bitsandbytes does not quantize them, and LoRA's `all-linear` leaves them out but for those that peft
    converts (`estimate.adapters`)."""
    is_expert: bool = False
    """Whether it belongs to the experts of a mixture."""

    @property
    def weights(self) -> int:
        """Weights of all of them, biases not counted."""
        return self.count * self.inputs * self.outputs

    @property
    def parameters(self) -> int:
        """Weights and biases of all of them."""
        return self.weights + (self.count * self.outputs if self.bias else 0)

    @property
    def active_weights(self) -> int:
        """Weights that one token is multiplied with."""
        return (self.active or self.count) * self.inputs * self.outputs


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
    """All linear layers of the decoder except the output head."""
    other_parameters: int
    """Norms, sinks and whatever else is neither a linear layer nor the embedding or head."""
    mlp_width: int
    """Intermediate width that one token sees in a layer: all its active experts together; the widest
    where layers differ."""
    experts: int = 0
    experts_per_token: int = 0
    window: int = 0
    """Sliding attention window in tokens; 0 for none."""
    window_layers: int = 0
    """Layers that use the window."""
    max_positions: int = 0
    """Longest context in tokens."""
    logit_softcap: bool = False
    """Whether the logits are bounded by a tanh, which keeps further copies of them in training."""
    vision_linears: tuple[Linear, ...] = ()
    """Linear layers of a vision encoder beside the decoder: they lie in memory (and `all-linear` targets
    them), but text does not pass through them."""
    vision_other_parameters: int = 0
    """What else the vision encoder and its projector hold."""
    guessed: str = ""
    """Why the shape may be wrong; empty for an architecture that is known."""

    @property
    def parameters(self) -> int:
        """All parameters, a vision encoder included; a tied head is counted once."""
        linear = sum(layer.parameters for layer in self.linears)
        text = linear + self.other_parameters + self.embedding_parameters + self.head_parameters
        return text + self.vision_parameters

    @property
    def vision_parameters(self) -> int:
        """Parameters of the vision encoder and its projector; 0 for a model of text alone."""
        return sum(layer.parameters for layer in self.vision_linears) + self.vision_other_parameters

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

    def kv_bytes(self, tokens: int, bytes_per_value: float) -> float:
        """Return the bytes of keys and values of one sequence; a layer with a window keeps no more than that."""
        kept = (self.layers - self.window_layers) * tokens + self.window_layers * min(tokens, self.window or tokens)
        return 2 * self.kv_heads * self.head_dim * bytes_per_value * kept

    def stored_bytes(self, weights: str = "bf16") -> float:
        """Return the bytes of the weights in a format of `BYTES_PER_PARAMETER`.

        In `mxfp4` only the weights of the experts are, as in GPT-OSS, and in `fp8` only those of linear
        layers; the rest is bf16. Scales of fp8 are not counted.
        """
        size = BYTES_PER_PARAMETER[weights]
        if weights not in ("mxfp4", "fp8"):
            return self.parameters * size
        small = [layer.weights for layer in self.linears if layer.is_expert or weights == "fp8"]
        return sum(small) * size + (self.parameters - sum(small)) * BYTES_PER_PARAMETER["bf16"]
