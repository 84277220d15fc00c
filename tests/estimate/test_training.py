"""How the parts of training memory follow from what is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from largeforge.estimate.decoders import shape
from largeforge.estimate.footprints import DPO, GRPO, REWARD, AdapterFootprint, MethodFootprint, with_teacher
from largeforge.estimate.load import TrainingLoad
from largeforge.estimate.memory import PARTS, Memory
from largeforge.estimate.training import training_memory

if TYPE_CHECKING:
    from largeforge.estimate.shape import Shape

LLAMA_8B = shape({
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
})  # fmt: skip
QWEN = {
    "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936,
}  # fmt: skip
LORA = AdapterFootprint(rank=16)
LOAD = TrainingLoad(LLAMA_8B, batch=4, length=2048)


def _phase(memory: Memory, name: str, part: str) -> float:
    return memory.phases[name][part]


def test_the_total_is_the_sum_of_the_parts_at_the_worst_moment() -> None:
    memory = training_memory(LOAD)
    assert memory.total == pytest.approx(sum(memory.parts.values()))
    assert memory.total == max(sum(parts.values()) for parts in memory.phases.values())
    assert set(memory.parts) <= set(PARTS)


def test_full_training_in_bf16_takes_eight_bytes_a_parameter() -> None:
    step = training_memory(LOAD).phases["optimizer step"]
    states = step["weights"] + step["gradients"] + step["optimizer"]
    assert states == pytest.approx(8 * LLAMA_8B.parameters)


def test_checkpointing_keeps_one_value_per_layer_and_hidden_unit() -> None:
    kept, recomputed = (training_memory(replace(LOAD, checkpointing=on)) for on in (False, True))
    assert _phase(recomputed, "loss", "activations") < _phase(kept, "loss", "activations") / 15
    assert recomputed.total < kept.total


def test_activations_grow_with_the_batch_and_states_do_not() -> None:
    one, four = (training_memory(replace(LOAD, batch=batch, checkpointing=False)) for batch in (1, 4))
    assert _phase(four, "loss", "activations") >= 4 * _phase(one, "loss", "activations")
    assert _phase(four, "loss", "weights") == _phase(one, "loss", "weights")


def test_rows_of_one_length_need_no_mask_and_packed_ones_the_largest() -> None:
    """Recomputed layers share one mask of a byte per pair of tokens; kept ones each keep one in bf16."""

    def activations(rows: str) -> float:
        return _phase(training_memory(replace(LOAD, rows=rows)), "loss", "activations")

    tokens = 4 * 2048
    assert activations("padded") - activations("equal") == pytest.approx(4 * 2048**2)
    assert activations("packed") - activations("equal") == pytest.approx(tokens**2)


def test_a_single_row_is_never_padded() -> None:
    padded, equal = (training_memory(replace(LOAD, batch=1, rows=rows)).total for rows in ("padded", "equal"))
    assert padded == equal


def test_lora_has_gradients_and_optimizer_states_of_the_adapter_alone() -> None:
    step = training_memory(replace(LOAD, adapter=LORA)).phases["optimizer step"]
    widths = 4096 + 4096, 4096 + 1024, 4096 + 1024, 4096 + 4096, 4096 + 14336, 4096 + 14336, 14336 + 4096
    parameters = 16 * 32 * sum(widths)
    assert step["gradients"] == pytest.approx(4 * parameters)
    assert step["optimizer"] == pytest.approx(8 * parameters)
    assert step["weights"] == pytest.approx(2 * LLAMA_8B.parameters)


def test_lora_on_fewer_layers_takes_less() -> None:
    every, some = (
        training_memory(replace(LOAD, adapter=replace(LORA, targets=targets), checkpointing=False))
        for targets in ("all-linear", ("q_proj", "v_proj"))
    )
    assert some.phases["optimizer step"]["optimizer"] < every.phases["optimizer step"]["optimizer"] / 3
    assert _phase(some, "loss", "activations") < _phase(every, "loss", "activations")


def test_four_bit_weights_leave_embedding_and_head_as_they_are() -> None:
    plain, quantized = (
        training_memory(replace(LOAD, adapter=replace(LORA, base_weights=base))).phases["loss"]["weights"]
        for base in ("as_precision", "nf4")
    )
    linear = sum(layer.weights for layer in LLAMA_8B.linears)
    assert plain - quantized == pytest.approx(linear * (2 - 4.127 / 8), rel=1e-4)


def test_preferences_double_the_sequences_and_full_training_the_weights() -> None:
    sft, dpo = training_memory(LOAD), training_memory(replace(LOAD, method=DPO))
    assert dpo.parts["reference"] == dpo.parts["weights"] == pytest.approx(2 * LLAMA_8B.parameters)
    assert _phase(dpo, "loss", "activations") == pytest.approx(2 * _phase(sft, "loss", "activations"), rel=0.2)


def test_with_an_adapter_the_reference_is_the_model_itself() -> None:
    memory = training_memory(replace(LOAD, method=DPO, adapter=LORA))
    assert "reference" not in memory.parts
    assert "reference layers" in memory.phases


def test_a_reward_model_has_no_logits() -> None:
    assert _phase(training_memory(replace(LOAD, method=REWARD)), "loss", "logits") == 0


def test_full_logits_cost_as_much_as_the_vocabulary_is_large() -> None:
    fused, full = (
        _phase(training_memory(replace(LOAD, adapter=LORA, method=MethodFootprint("x", logits=kind))), "loss", "logits")
        for kind in ("fused", "full")
    )
    assert full == pytest.approx(14 * 4 * 2048 * 128256)
    assert full > 10 * fused


def test_a_teacher_lies_beside_the_student() -> None:
    student = shape({**QWEN, "tie_word_embeddings": True})
    load = TrainingLoad(student, method=with_teacher(MethodFootprint("distillation"), LLAMA_8B))
    assert training_memory(load).parts["reference"] == pytest.approx(2 * LLAMA_8B.parameters)


def test_generations_fill_a_cache_of_keys_and_values() -> None:
    load = replace(LOAD, method=replace(GRPO, completion_length=1024), adapter=LORA)
    cache = training_memory(load).phases["generation"]["kv_cache"]
    assert cache == pytest.approx(4 * 2048 * LLAMA_8B.kv_bytes_per_token(2), rel=0.02)
    twice = training_memory(replace(load, accumulation=2)).phases["generation"]["kv_cache"]
    assert twice == pytest.approx(2 * cache)


def test_a_tied_head_is_counted_once() -> None:
    tied, untied = (
        training_memory(TrainingLoad(shape({**QWEN, "tie_word_embeddings": tie}))).phases["optimizer step"]
        for tie in (True, False)
    )
    assert untied["weights"] - tied["weights"] == pytest.approx(2 * 151936 * 896)


def test_accumulated_gradients_are_there_during_the_next_forward_pass() -> None:
    once, twice = (training_memory(replace(LOAD, accumulation=steps)) for steps in (1, 2))
    assert _phase(once, "loss", "gradients") == 0
    assert _phase(twice, "loss", "gradients") == pytest.approx(2 * LLAMA_8B.parameters)


def test_a_mixture_holds_all_experts_and_activates_a_few() -> None:
    fields = {
        "model_type": "qwen3_moe", "hidden_size": 2048, "moe_intermediate_size": 768, "intermediate_size": 6144,
        "num_hidden_layers": 8, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
        "vocab_size": 151936, "num_experts_per_tok": 8,
    }  # fmt: skip
    few, many = (
        training_memory(TrainingLoad(shape({**fields, "num_experts": experts}), batch=4)) for experts in (32, 128)
    )
    assert _phase(many, "loss", "activations") == _phase(few, "loss", "activations")
    assert _phase(many, "loss", "weights") > 2 * _phase(few, "loss", "weights")


def test_fp32_doubles_what_bf16_takes() -> None:
    half, full = (
        training_memory(replace(LOAD, weights=precision, compute=precision)).phases["optimizer step"]
        for precision in ("bf16", "fp32")
    )
    assert full["weights"] + full["gradients"] + full["optimizer"] == pytest.approx(
        2 * (half["weights"] + half["gradients"] + half["optimizer"])
    )


def test_an_unknown_optimizer_is_named_with_the_nearest_known_one(qwen: Shape) -> None:
    with pytest.raises(ValueError, match="'adamw_torch_fusd'; did you mean 'adamw_torch_fused'"):
        training_memory(TrainingLoad(qwen, optimizer="adamw_torch_fusd"))


@pytest.fixture
def qwen() -> Shape:
    """Give a small model."""
    return shape({**QWEN, "tie_word_embeddings": True})
