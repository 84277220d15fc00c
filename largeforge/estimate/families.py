"""What sets one family of decoders apart from another: biases, norms, experts, windows, defaults.

Each entry says what the modeling and configuration files of transformers 5 say for that
`model_type`; tests/estimate/test_shape.py builds every one and compares.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Family:
    """How the decoders with one `model_type` are built."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What is meant when config.json leaves a field out."""
    qkv_bias: bool | str = "attention_bias"
    """Whether the query, key and value projections have biases, or the field that says so."""
    o_bias: bool | str = "attention_bias"
    """The same for the output projection of the attention."""
    mlp_bias: bool = False
    """Whether the field `mlp_bias` is heeded."""
    norms: int = 2
    """RMSNorms of the hidden size in a layer."""
    qk_norm: Literal["", "head", "all heads"] = ""
    """RMSNorms of queries and keys: none, one as wide as a head, or one over all heads."""
    fused: bool = False
    """Whether there is one `qkv_proj` and one `gate_up_proj` instead of five layers."""
    sinks: bool = False
    """Whether each head has an attention sink."""
    expert_width: str = ""
    """Field with the intermediate size of an expert; empty for a dense model."""
    expert_bias: bool = False
    """Whether experts and router have biases."""
    router: str = "gate"
    """Module name of the router."""
    shared_expert: bool = False
    """Whether an expert that all tokens pass through, and its gate, stand beside the others."""
    window: Literal["", "all", "even", "even below", "last of six", "above"] = ""
    """Layers with a sliding window where no `layer_types` says which: none, all, every second beginning
    with the first (`even below`: below `max_window_layers`), all but every sixth, or those from
    `max_window_layers` on."""
    window_switch: bool = False
    """Whether `use_sliding_window` must be true for it."""


_TIED = {"tie_word_embeddings": True}
_QWEN_WINDOW = {"sliding_window": 4096, "max_window_layers": 28}
_GEMMA3 = {
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208, "sliding_window": 4096,
    "max_position_embeddings": 131072, **_TIED,
}  # fmt: skip
"""The published configs of Gemma 3 4B, 12B and 27B leave these out."""

LLAMA = Family(mlp_bias=True)

FAMILIES: dict[str, Family] = {
    "llama": LLAMA,
    "granite": LLAMA,
    "smollm3": Family(defaults=_TIED, mlp_bias=True, window_switch=True),
    "mistral": Family(defaults={"sliding_window": 4096, "num_key_value_heads": 8}, qkv_bias=False, o_bias=False,
                      window="all"),
    "mixtral": Family(defaults={"num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2},
                      qkv_bias=False, o_bias=False, expert_width="intermediate_size", window="all"),
    "qwen2": Family(defaults=_QWEN_WINDOW, qkv_bias=True, o_bias=False, window="above", window_switch=True),
    "qwen2_moe": Family(defaults={**_QWEN_WINDOW, "qkv_bias": True}, qkv_bias="qkv_bias", o_bias=False,
                        shared_expert=True, expert_width="moe_intermediate_size", window="even below",
                        window_switch=True),
    "qwen3": Family(defaults={**_QWEN_WINDOW, "head_dim": 128}, qk_norm="head", window="above", window_switch=True),
    "qwen3_moe": Family(defaults={"sliding_window": 4096}, qk_norm="head", expert_width="moe_intermediate_size",
                        window="all", window_switch=True),
    "gemma": Family(defaults={"head_dim": 256, **_TIED}),
    "gemma2": Family(defaults={"head_dim": 256, "sliding_window": 4096, "final_logit_softcapping": 30.0, **_TIED},
                     norms=4, window="even"),
    "gemma3_text": Family(defaults=_GEMMA3, norms=4, qk_norm="head", window="last of six"),
    "phi3": Family(qkv_bias=False, o_bias=False, fused=True, window="all"),
    "gpt_oss": Family(defaults={"head_dim": 64, "attention_bias": True, "sliding_window": 128}, sinks=True,
                      expert_width="intermediate_size", expert_bias=True, router="router", window="even"),
    "olmo2": Family(qk_norm="all heads"),
}  # fmt: skip
"""Family by `model_type`."""
