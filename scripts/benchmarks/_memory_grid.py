"""What is measured: public architectures, and the points of each grid."""

from __future__ import annotations

from itertools import product
from typing import Any

from scripts.benchmarks._memory_point import Point

MODELS: dict[str, dict[str, Any]] = {
    "qwen2.5-0.5b": {
        "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
    },
    "qwen2.5-1.5b": {
        "model_type": "qwen2", "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
        "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
    },
    "qwen2.5-7b": {
        "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
    },
    "llama-3.2-1b": {
        "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256,
        "tie_word_embeddings": True,
    },
    "llama-3.1-8b": {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
    },
    "gemma-2-2b": {
        "model_type": "gemma2", "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 256000,
        "sliding_window": 4096, "tie_word_embeddings": True,
    },
    "qwen3-0.6b": {
        "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "qwen3-8b": {
        "model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
        "tie_word_embeddings": False,
    },
    "mistral-7b": {
        "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32768, "sliding_window": None,
        "tie_word_embeddings": False,
    },
    "phi-3-mini": {
        "model_type": "phi3", "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32064, "sliding_window": None,
        "tie_word_embeddings": False, "pad_token_id": 0,
    },
    "gemma-3-1b": {
        "model_type": "gemma3_text", "hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26,
        "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 262144,
        "sliding_window": 512, "tie_word_embeddings": True,
    },
    "olmo-2-1b": {
        "model_type": "olmo2", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 100352, "tie_word_embeddings": False,
    },
    "qwen3-30b-a3b": {
        "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768,
        "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
        "vocab_size": 151936, "num_experts": 128, "num_experts_per_tok": 8, "tie_word_embeddings": False,
    },
    "gpt-oss-20b": {
        "model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 24,
        "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 201088,
        "num_local_experts": 32, "num_experts_per_tok": 4, "sliding_window": 128, "tie_word_embeddings": False,
    },
}  # fmt: skip
"""Fields of public `config.json` files that memory depends on."""

SMALL: dict[str, dict[str, Any]] = {
    "llama-60m": {
        "model_type": "llama", "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8,
        "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 32000, "tie_word_embeddings": False,
    },
    "qwen3-40m": {
        "model_type": "qwen3", "hidden_size": 384, "intermediate_size": 1152, "num_hidden_layers": 10,
        "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 48000,
        "tie_word_embeddings": True,
    },
}  # fmt: skip
"""Models that a CPU trains a step of in seconds."""

MIXTURES = ("qwen3-30b-a3b", "gpt-oss-20b")

HELD_OUT = ("qwen3-0.6b", "qwen3-8b", "mistral-7b")
"""Models that no formula was adjusted to."""


def point(model: str, **settings: Any) -> Point:
    """Return a point of a model of `MODELS`."""
    return Point(model=model, architecture=MODELS[model], **settings)


def traced_grid() -> list[Point]:
    """Return the points that are traced on fake tensors."""
    found = []
    for model in MODELS:
        batch, length = (2, 1024) if model in MIXTURES else (2, 2048) if model.endswith(("7b", "8b")) else (4, 2048)
        for lora_r, checkpointing in product((0, 16), (True, False)):
            found.append(point(model, batch=batch, length=length, checkpointing=checkpointing, lora_r=lora_r))
    for model in ("qwen2.5-0.5b", "llama-3.2-1b", "gemma-2-2b", "qwen3-0.6b", "gemma-3-1b"):
        found += [point(model, batch=1, length=512, lora_r=lora_r) for lora_r in (0, 16)]
        found.append(point(model, batch=2, length=1024, method="dpo"))
        found.append(point(model, batch=2, length=1024, method="dpo", lora_r=16, checkpointing=False))
        found.append(point(model, batch=4, length=2048, rows="padded", checkpointing=False))
        found.append(point(model, batch=2, length=2048, rows="packed", lora_r=8))
        for method in ("orpo", "kto", "reward"):
            found.append(point(model, batch=2, length=1024, method=method))
            found.append(point(model, batch=2, length=1024, method=method, lora_r=16, checkpointing=False))
    return found


def cuda_grid() -> list[Point]:
    """Return the points of a GPU of 24 GB and more; those that do not fit the one at hand are left out."""
    small = ("qwen2.5-0.5b", "llama-3.2-1b", "gemma-2-2b", "qwen3-0.6b")
    large = ("qwen2.5-7b", "llama-3.1-8b")
    found = [point(model, batch=2, length=1024) for model in small]
    found += [point(model, batch=4, length=1024, checkpointing=False) for model in small[:2]]
    found += [point(model, batch=8, length=2048, lora_r=16) for model in small]
    found += [point(model, batch=2, length=1024, lora_r=16, checkpointing=False) for model in (*small, "qwen2.5-1.5b")]
    found += [point(model, batch=1, length=4096, lora_r=16) for model in large]
    found += [point(model, batch=2, length=1024, method="dpo") for model in ("qwen2.5-0.5b", "llama-3.2-1b")]
    found += [
        point("qwen2.5-1.5b", batch=2, length=1024, method="dpo", lora_r=16, checkpointing=kept)
        for kept in (True, False)
    ]
    found += [point(model, batch=4, length=2048, rows="padded", lora_r=16) for model in ("qwen2.5-1.5b", "qwen3-0.6b")]
    found += [point(model, batch=1, length=1024) for model in ("qwen2.5-1.5b", *large)]
    found += [point("llama-3.1-8b", batch=2, length=2048, lora_r=16, checkpointing=False)]
    found += [point(model, batch=2, length=2048, lora_r=16, quantized=True) for model in large]
    return found


def cpu_grid() -> list[Point]:
    """Return the points of a machine without a GPU: small models, fp32."""
    found = []
    for model, (lora_r, kept) in product(SMALL, ((0, True), (0, False), (16, False))):
        found.append(_small(model, batch=2, length=256, lora_r=lora_r, checkpointing=kept))
    found.append(_small("llama-60m", batch=4, length=512, checkpointing=False))
    found.append(_small("llama-60m", batch=4, length=512, lora_r=16))
    found.append(_small("llama-60m", batch=1, length=256, method="dpo", checkpointing=False))
    found.append(_small("llama-60m", batch=1, length=256, method="dpo", lora_r=16, checkpointing=False))
    return found


def _small(model: str, **settings: Any) -> Point:
    return Point(model=model, architecture=SMALL[model], precision="fp32", **settings)
