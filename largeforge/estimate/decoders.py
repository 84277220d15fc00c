"""Build a `Shape` from the fields of a `config.json` and what its family makes of them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from largeforge.estimate.families import FAMILIES, LLAMA, Family
from largeforge.estimate.fields import MOST_LAYERS, Fields
from largeforge.estimate.shape import Linear, Shape
from largeforge.estimate.vision import with_vision

_NOT_LLAMA = (
    "kv_lora_rank", "n_routed_experts", "num_experts", "num_local_experts", "state_size", "mamba_d_state",
    "conv_L_cache", "linear_num_value_heads", "layers_block_type", "is_encoder_decoder", "num_kv_shared_layers",
    "attn_layer_period",
)  # fmt: skip
"""Fields of what llama has not: latent attention, unknown mixtures, state spaces, convolutions, encoders."""
_MOST_STRETCHED = 1000
"""Largest factor of a longer context that is believed."""


def shape(config: Mapping[str, Any], *, vocab_size: int = 0) -> Shape:
    """Return the shape that a `config.json` describes; `vocab_size` stands in where it has none.

    An architecture that is not known is taken for llama when it has llama's fields, and says so in
    `guessed`. Raises ValueError when it has not, and for a field that is missing or makes no sense.
    """
    text = config.get("text_config")
    if not isinstance(text, Mapping):
        return _decoder(config, vocab_size)
    outer = str(config.get("model_type", ""))[:64]
    inner = {"model_type": f"{outer}_text", **text}
    if "tie_word_embeddings" in config:
        inner["tie_word_embeddings"] = config["tie_word_embeddings"]
    found = _decoder(inner, vocab_size)
    if outer == "gemma3":
        return with_vision(found, config.get("vision_config"))
    return replace(found, guessed=found.guessed or f"only the text part of {outer!r} is counted")


def _decoder(config: Mapping[str, Any], vocab_size: int) -> Shape:
    model_type = str(config.get("model_type") or "")[:64]
    family, guessed = FAMILIES.get(model_type), ""
    if family is None:
        family, guessed = LLAMA, f"model_type {model_type!r} is not known: computed as if it were llama"
        _check_like_llama(config, model_type)
    fields = Fields(config, family.defaults)
    hidden, layers = fields.integer("hidden_size"), fields.integer("num_hidden_layers", most=MOST_LAYERS)
    heads = fields.integer("num_attention_heads")
    kv_heads = fields.integer("num_key_value_heads", default=heads)
    head_dim = fields.integer("head_dim", default=max(1, hidden // heads))
    sparse = _sparse_layers(family, fields, layers)
    experts = fields.integer("num_local_experts", "num_experts") if sparse else 0
    per_token = fields.integer("num_experts_per_tok", "experts_per_token", most=experts) if sparse else 0
    window = _window(family, fields)
    mixture, mixture_width = _mixture(family, fields, sparse, experts, per_token)
    dense, dense_width = _dense(family, fields, layers - sparse)
    norms = family.norms * layers * hidden + hidden
    return Shape(
        model_type=model_type, hidden_size=hidden, layers=layers, heads=heads, kv_heads=kv_heads, head_dim=head_dim,
        vocab_size=fields.integer("vocab_size", default=vocab_size or None), tied=fields.flag("tie_word_embeddings"),
        linears=(*_attention(family, fields, layers, head_dim), *dense, *mixture),
        other_parameters=norms + layers * _attention_extras(family, heads, kv_heads, head_dim),
        mlp_width=max(dense_width, mixture_width), experts=experts, experts_per_token=per_token,
        window=window, window_layers=_window_layers(family, fields, layers) if window else 0,
        max_positions=_positions(model_type, fields),
        logit_softcap=bool(fields.raw("final_logit_softcapping")), guessed=guessed,
    )  # fmt: skip


def _positions(model_type: str, fields: Fields) -> int:
    """Return the longest context in tokens, 0 where it is not known.

    Linear and dynamic scaling stretch what the file says; others, and Gemma 3, say it stretched (vllm/config/model.py,
    `_get_and_verify_max_len`).
    """
    given = fields.integer("max_position_embeddings", default=0)
    scaling = fields.raw("rope_scaling") or fields.raw("rope_parameters")
    if not isinstance(scaling, Mapping) or model_type.startswith("gemma3"):
        return given
    kind, factor = scaling.get("rope_type", scaling.get("type")), scaling.get("factor")
    if kind not in ("linear", "dynamic") or not isinstance(factor, int | float) or not 1 <= factor <= _MOST_STRETCHED:
        return given
    return int(given * factor)


def _check_like_llama(config: Mapping[str, Any], model_type: str) -> None:
    needed = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    strange = [name for name in _NOT_LLAMA if config.get(name)]
    missing = [name for name in needed if name not in config]
    if not strange and not missing:
        return
    why = f"it has {strange[0]}" if strange else f"it has no {missing[0]}"
    near = difflib.get_close_matches(model_type, FAMILIES, n=1)
    raise ValueError(
        f"model_type {model_type!r} is not known, and it is not built as llama is ({why}); "
        f"known: {', '.join(sorted({*FAMILIES, 'gemma3'}))}" + (f". Did you mean '{near[0]}'?" if near else "")
    )


def _attention(family: Family, fields: Fields, layers: int, head_dim: int) -> tuple[Linear, ...]:
    hidden, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    queries, keys = heads * head_dim, fields.integer("num_key_value_heads", default=heads) * head_dim
    bias, out_bias = _has(family.qkv_bias, fields), _has(family.o_bias, fields)
    out = Linear("o_proj", queries, hidden, layers, out_bias)
    if family.fused:
        return (Linear("qkv_proj", hidden, queries + 2 * keys, layers, bias), out)
    return (
        Linear("q_proj", hidden, queries, layers, bias),
        Linear("k_proj", hidden, keys, layers, bias),
        Linear("v_proj", hidden, keys, layers, bias),
        out,
    )


def _has(bias: bool | str, fields: Fields) -> bool:
    return fields.flag(bias) if isinstance(bias, str) else bias


def _attention_extras(family: Family, heads: int, kv_heads: int, head_dim: int) -> int:
    """Return the parameters of query and key norms and of sinks, per layer."""
    norms = {"": 0, "head": 2 * head_dim, "all heads": (heads + kv_heads) * head_dim}[family.qk_norm]
    return norms + (heads if family.sinks else 0)


def _dense(family: Family, fields: Fields, count: int) -> tuple[tuple[Linear, ...], int]:
    """Return the linear layers of the dense MLPs, and their width."""
    if not count:
        return (), 0
    hidden, width = fields.integer("hidden_size"), fields.integer("intermediate_size")
    bias = family.mlp_bias and fields.flag("mlp_bias")
    down = Linear("down_proj", width, hidden, count, bias)
    if family.fused:
        return (Linear("gate_up_proj", hidden, 2 * width, count, bias), down), width
    gate, up = (Linear(name, hidden, width, count, bias) for name in ("gate_proj", "up_proj"))
    return (gate, up, down), width


def _sparse_layers(family: Family, fields: Fields, layers: int) -> int:
    """Return how many layers are mixtures of experts."""
    if not family.expert_width or fields.integer("num_local_experts", "num_experts", default=0, least=0) == 0:
        return 0
    step = fields.integer("decoder_sparse_step", default=1)
    dense = {index for index in fields.items("mlp_only_layers") if isinstance(index, int)}
    return sum(1 for index in range(layers) if index not in dense and (index + 1) % step == 0)


def _mixture(
    family: Family, fields: Fields, sparse: int, experts: int, per_token: int
) -> tuple[tuple[Linear, ...], int]:
    """Return the linear layers of the mixtures, and the width that a token sees in one."""
    if not sparse:
        return (), 0
    hidden, width = fields.integer("hidden_size"), fields.integer(family.expert_width)
    every, used, bias = sparse * experts, sparse * per_token, family.expert_bias
    router = Linear(family.router, hidden, experts, sparse, bias, is_linear=False)
    up = Linear("gate_up_proj", hidden, 2 * width, every, bias, active=used, is_linear=False, is_expert=True)
    down = Linear("down_proj", width, hidden, every, bias, active=used, is_linear=False, is_expert=True)
    if not family.shared_expert:
        return (router, up, down), per_token * width
    shared = fields.integer("shared_expert_intermediate_size")
    beside = (
        Linear("gate_proj", hidden, shared, sparse),
        Linear("up_proj", hidden, shared, sparse),
        Linear("down_proj", shared, hidden, sparse),
        Linear("shared_expert_gate", hidden, 1, sparse),
    )
    return (router, up, down, *beside), per_token * width + shared


def _window(family: Family, fields: Fields) -> int:
    if family.window_switch and not fields.flag("use_sliding_window"):
        return 0
    window, longest = (
        fields.integer(name, default=0, least=0) for name in ("sliding_window", "max_position_embeddings")
    )
    return 0 if 0 < longest <= window else window


def _window_layers(family: Family, fields: Fields, layers: int) -> int:
    types = fields.items("layer_types")
    if types:
        return types[:layers].count("sliding_attention")
    first_full = fields.integer("max_window_layers", default=layers, least=0)
    pattern = fields.integer("sliding_window_pattern", "_sliding_window_pattern", default=6)
    return {
        "": 0,
        "all": layers,
        "even": (layers + 1) // 2,
        "even below": (min(first_full, layers) + 1) // 2,
        "last of six": layers - layers // pattern,
        "above": max(0, layers - first_full),
    }[family.window]
