"""Bytes of quantized weights, against sizes of published files."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from largeforge.estimate.serving import Server, weights_bytes
from largeforge.estimate.shape import Linear, Shape
from largeforge.estimate.stored import linear_bytes

LAYER = Linear("q_proj", 1000, 1000, 10, bias=True)


@pytest.mark.parametrize(
    ("model", "weights", "gigabytes", "source"),
    [
        ("llama_3_1_8b_instruct", "bf16", 16.06, "model.safetensors.index.json of meta-llama/Llama-3.1-8B-Instruct"),
        ("qwen2_5_7b_instruct", "awq", 5.57, "vLLM: 5.2032 GiB, github.com/vllm-project/vllm/issues/13882"),
        ("gpt_oss_20b", "mxfp4", 13.76, "model card of openai/gpt-oss-20b: 12.8 GiB checkpoint"),
        ("llama_3_1_70b_instruct", "fp8", 72.7, "70.6e9 parameters, of which 2.1e9 stay in bf16"),
    ],
)
def test_weights_are_as_large_as_published(
    model: str, weights: str, gigabytes: float, source: str, library: Callable[[str], Shape]
) -> None:
    assert weights_bytes(Server(library(model), weights=weights)) / 1e9 == pytest.approx(gigabytes, rel=0.01), source


def test_biases_and_routers_are_not_quantized() -> None:
    assert linear_bytes(LAYER, "fp8") == 10_000_000 + 10_000 * 2
    router = Linear("gate", 1000, 8, 10, is_linear=False)
    assert linear_bytes(router, "fp8") == 80_000 * 2


def test_mxfp4_is_for_experts() -> None:
    expert = Linear("down_proj", 1000, 1000, 10, active=2, is_linear=False, is_expert=True)
    assert linear_bytes(expert, "mxfp4") == 10_000_000 * 4.25 / 8
    assert linear_bytes(LAYER, "mxfp4") == linear_bytes(LAYER, "bf16")


def test_other_names_of_a_format_mean_the_same() -> None:
    assert linear_bytes(LAYER, "bitsandbytes") == linear_bytes(LAYER, "nf4")


def test_an_unknown_format_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"weights 'int3'; there is: fp32, bf16.*mxfp4"):
        linear_bytes(LAYER, "int3")
