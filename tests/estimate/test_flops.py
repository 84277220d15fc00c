"""Operations per token against sums done by hand and against torch's own counter."""

from __future__ import annotations

import pytest

from largeforge.estimate import flops
from largeforge.estimate.decoders import shape

CONFIG = {
    "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 500,
}  # fmt: skip


def test_linear_layers_cost_what_torch_counts() -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**CONFIG), attn_implementation="eager")
        counter = FlopCounterMode(display=False)
        with counter:
            model(torch.zeros(1, 32, dtype=torch.long))
    counted = counter.get_flop_counts()["Global"]
    linear = sum(count for op, count in counted.items() if "bmm" not in str(op))
    attention = sum(count for op, count in counted.items() if "bmm" in str(op))
    found = shape(CONFIG)
    assert flops.matmul_flops_per_token(found) * 32 == linear
    # Eager attention also computes what the causal mask hides: 32 tokens seen by each instead of 16.5.
    assert flops.attention_flops_per_token(found, 32) * 32 * 32 / 16.5 == attention


def test_a_token_passes_through_its_experts_only() -> None:
    moe = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "head_dim": 16}
    found = shape({**CONFIG, **moe, "model_type": "qwen3_moe"})
    attention, experts, router = 64 * 16 * (4 + 2 + 2 + 4), 2 * 3 * 64 * 48, 64 * 8
    assert flops.matmul_flops_per_token(found) == 2 * (4 * (attention + experts + router) + 64 * 500)
    assert flops.matmul_flops_per_token(found, head=False) == 2 * 4 * (attention + experts + router)


@pytest.mark.parametrize(("length", "window"), [(1, 0), (7, 0), (7, 7), (7, 3), (100, 1), (100, 30)])
def test_mean_context_is_the_mean(length: int, window: int) -> None:
    seen = [min(position, window or length) for position in range(1, length + 1)]
    assert flops.mean_context(length, window) == pytest.approx(sum(seen) / length)


def test_a_window_bounds_attention() -> None:
    found = shape({**CONFIG, "model_type": "mistral", "sliding_window": 16})
    assert flops.attention_flops_per_token(found, 10_000) == pytest.approx(4 * 4 * 4 * 16 * 16, rel=0.01)
    assert flops.decode_flops(found, 10_000) == flops.decode_flops(found, 16)
    assert flops.forward_flops_per_token(found, 8) > flops.forward_flops_per_token(found, 4)
