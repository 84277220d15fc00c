"""What each adapter asks of peft and bitsandbytes, and what the plan says of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from largeforge.forecast.plan import with_forecasts
from largeforge.planning import make_plan
from largeforge.recipe import extensions
from largeforge.recipe.compose import compose
from largeforge.recipe.validate import validate

if TYPE_CHECKING:
    from largeforge.forecast.stage import Forecast


def planned(*overrides: str) -> Forecast:
    recipe = validate(compose(["+recipe=sft_qwen7b", *overrides]))
    return with_forecasts(make_plan(recipe)).forecasts["train"]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("lora", {"use_rslora": False, "use_dora": False}),
        ("rslora", {"use_rslora": True, "use_dora": False}),
        ("dora", {"use_rslora": False, "use_dora": True}),
        ("qlora", {"use_rslora": False, "use_dora": False}),
    ],
)
def test_peft_is_asked_for_what_the_name_says(name: str, fields: dict[str, bool]) -> None:
    adapter = extensions.load("adapter", name)
    config = adapter.Config(lora_r=8, lora_alpha=16, lora_dropout=0.1, lora_target_modules=["q_proj"])
    asked = adapter.peft_config(config)
    assert {field: getattr(asked, field) for field in fields} == fields
    assert (asked.r, asked.lora_alpha, asked.lora_dropout, asked.target_modules) == (8, 16, 0.1, {"q_proj"})
    assert asked.init_lora_weights is True


def test_only_qlora_quantizes_the_base() -> None:
    for name in ("none", "lora", "rslora", "dora"):
        adapter = extensions.load("adapter", name)
        assert adapter.quantization(adapter.Config(), precision="bf16") is None
    qlora = extensions.load("adapter", "qlora")
    asked = qlora.quantization(qlora.Config(bnb_4bit_quant_type="fp4"), precision="fp32")
    assert asked.load_in_4bit
    assert asked.bnb_4bit_quant_type == "fp4"
    assert asked.bnb_4bit_use_double_quant
    assert str(asked.bnb_4bit_compute_dtype) == "torch.float32"


def test_a_base_in_four_bits_takes_less_than_a_third_of_the_memory() -> None:
    plain, quantized = planned().memory, planned("adapter=qlora").memory
    assert plain and quantized
    assert quantized.parts["weights"] < plain.parts["weights"] / 2.5
    assert planned("adapter=qlora").verdict == "fits"


def test_a_magnitude_per_output_is_counted() -> None:
    lora, dora = planned().memory, planned("adapter=dora").memory
    assert lora and dora
    assert dora.parts["adapter"] > lora.parts["adapter"]


def test_a_layer_that_the_model_has_not_is_refused_by_the_plan() -> None:
    found = planned("adapter.lora_target_modules=[q_prj]")
    assert "no layer 'q_prj' (nearest: q_proj)" in found.refusal
    assert "down_proj" in found.refusal
    assert planned("adapter.lora_target_modules=[q_proj,v_proj]").refusal == ""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
