"""Why vLLM could not serve a quantized model: said before anything runs, without torch."""

from __future__ import annotations

import pytest

from largeforge.errors import RecipeError
from largeforge.estimate.decoders import shape
from largeforge.planning import make_plan
from largeforge.recipe import extensions
from largeforge.recipe.compose import compose
from largeforge.recipe.quantization import Target
from largeforge.recipe.validate import validate

QWEN = {
    "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
}  # fmt: skip
CPU = Target("cpu", shape(QWEN))
H100 = Target("cuda", shape(QWEN), compute_capability=9.0)


def reasons(name: str, target: Target, **settings) -> list[str]:
    module = extensions.load("quantization", name)
    return list(module.unservable(module.Config(**settings), target))


@pytest.mark.parametrize("name", ["awq", "awq_autoawq", "gptq", "w8a8", "fp8_dynamic", "none"])
def test_what_has_kernels_on_a_cpu_is_allowed_there(name):
    assert reasons(name, CPU) == []
    assert reasons(name, H100) == []


@pytest.mark.parametrize("name", ["awq", "awq_autoawq", "gptq"])
def test_a_cpu_without_avx512_serves_no_weights_of_4_bits(name):
    assert "only with AVX-512" in reasons(name, Target("cpu", avx512=False))[0]
    assert reasons("w8a8", Target("cpu", avx512=False)) == []


def test_what_has_none_is_refused_with_the_reason():
    assert "no static fp8 on a CPU" in reasons("fp8_static", CPU)[0]
    assert reasons("fp8_static", H100) == []
    assert "does not load bitsandbytes" in reasons("nf4", H100)[0]
    assert reasons("nf4", Target("cuda", other_vllm=True)) == []
    assert reasons("nf4", Target("cpu", other_vllm=True)) == ["no vLLM loads bitsandbytes on a CPU"]


@pytest.mark.parametrize("name", ["awq", "awq_autoawq", "gptq", "w8a8", "fp8_dynamic", "fp8_static"])
def test_a_gpu_without_kernels_is_refused(name):
    assert "from compute capability 7.5 on" in reasons(name, Target("cuda", compute_capability=7.0))[0]
    assert reasons(name, Target("cuda", compute_capability=7.5)) == []


def test_groups_must_divide_the_widths():
    narrow = shape({**QWEN, "intermediate_size": 4800})
    assert reasons("gptq", Target("cuda", narrow)) == [
        "down_proj has 4800 inputs, which 128 does not divide (groups of 128)"
    ]
    assert reasons("gptq", Target("cuda", narrow), group_size=64) == []
    assert reasons("w8a8", Target("cuda", narrow)) == []


def test_gpus_that_share_a_model_have_a_part_of_each_width():
    assert reasons("gptq", Target("cuda", shape(QWEN), tensor_parallel_size=2)) == [
        "o_proj has 448 inputs, which 128 does not divide (groups of 128)"
    ]


def test_autoawq_knows_certain_families():
    other = shape({**QWEN, "model_type": "llama"})
    assert reasons("awq_autoawq", Target("cuda", other)) == []
    unknown = shape({**QWEN, "model_type": "olmo2"})
    assert "does not know the layers of olmo2" in reasons("awq_autoawq", Target("cuda", unknown))[0]


def plan(*words: str):
    return make_plan(validate(compose(words)))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["+recipe=quantize_small", "quantization=fp8_static"],
            "quantization = 'fp8_static': vLLM 0.32 has no static fp8",
        ),
        (["+recipe=quantize_small", "quantization.fallback=[fp8_static]"], "quantization.fallback.0 = 'fp8_static'"),
        (["+recipe=quantize_small", "quantization.fallback=[fp8_dynamc]"], "Did you mean 'fp8_dynamic'"),
        (["+recipe=quantize_small", "quantization.fallback=[w8a8]"], "was tried before"),
        (["+recipe=quantize_small", "quantization.fallback=[none,fp8_dynamic]"], "is never tried"),
        (
            ["+recipe=quantize_small", "model.architecture.intermediate_size=200", "quantization=gptq"],
            "128 does not divide",
        ),
        (["+recipe=awq_qwen7b", "merge=false"], "an adapter cannot be quantized"),
        (["+recipe=quantize_small", "dataset.heldout_path=''", "dataset.heldout_fraction=0"], "needs held-out rows"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(words, said):
    with pytest.raises(RecipeError) as caught:
        plan(*words)
    assert said in str(caught.value)


def test_the_quantized_model_is_what_is_registered():
    stages = {stage.kind: stage for stage in plan("+recipe=awq_qwen7b").stages}
    assert stages["quantize"].inputs["model"] == "merge"
    assert stages["quantize"].needs == ["merge", "prepare", "gate"]
    assert stages["register"].inputs["model"] == "quantize"
    assert [choice["name"] for choice in stages["quantize"].config["choices"]] == ["awq", "fp8_dynamic", "none"]
    assert "llmcompressor==0.14.0.1" in stages["quantize"].config["environments"]["llm_compressor"]
    without = [stage.kind for stage in plan("+recipe=awq_qwen7b", "quantization=none").stages]
    assert "quantize" not in without
