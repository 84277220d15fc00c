"""Which installed packages a training does without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from largeforge.methods import distill, grpo, sft
from largeforge.training import left_out

if TYPE_CHECKING:
    from largeforge.recipe.training import TrainingMethod

PLAIN = '{"model_type": "qwen2"}'
QUANTIZED = '{"model_type": "qwen2", "quantization_config": {"quant_method": "bitsandbytes"}}'


@pytest.mark.parametrize(
    ("method", "config", "quantizes", "is_left_out"),
    [
        (sft.Config(), PLAIN, False, True),
        (grpo.Config(), PLAIN, False, True),
        (sft.Config(), PLAIN, True, False),
        (sft.Config(), QUANTIZED, False, False),
        (sft.Config(), "", False, False),
        (sft.Config(optim="paged_adamw_8bit"), PLAIN, False, False),
        (distill.Config(teacher="path:/a/teacher"), PLAIN, False, False),
    ],
    ids=["plain", "rewards", "qlora", "quantized base", "a name on the hub", "optimizer", "teacher"],
)
def test_bitsandbytes_is_left_out_where_nothing_can_be_quantized(
    method: TrainingMethod, config: str, quantizes: bool, is_left_out: bool, tmp_path: Path
) -> None:
    if config:
        (tmp_path / "config.json").write_text(config)
    found = left_out.unneeded(method, base=str(tmp_path), quantizes=quantizes, launcher="ddp")
    assert ("bitsandbytes" in found) is is_left_out
    assert {"wandb", "sklearn", "deepspeed"} <= set(found)


def test_deepspeed_is_there_where_it_trains(tmp_path: Path) -> None:
    found = left_out.unneeded(sft.Config(), base=str(tmp_path), quantizes=False, launcher="deepspeed")
    assert "deepspeed" not in found


def test_what_is_left_out_is_not_there_for_libraries_that_look_for_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(PLAIN)
    program = f"""
import sys
from importlib.util import find_spec
from largeforge.methods import sft
from largeforge.training.left_out import have_no_optional_parts, leave_out
have_no_optional_parts()
from transformers import AutoModelForCausalLM, Qwen2ForCausalLM
assert not {{"sklearn", "scipy", "pandas"}} & sys.modules.keys()
assert find_spec("sklearn") and find_spec("scipy"), "whoever asks for them later gets them"
have_no_optional_parts()
leave_out(sft.Config(), base={str(tmp_path)!r}, quantizes=False, launcher="single")
assert find_spec("bitsandbytes") is None and find_spec("deepspeed") is None
from peft.import_utils import is_bnb_available
from transformers.integrations import is_wandb_available
assert not is_bnb_available() and not is_wandb_available()
"""
    subprocess.run([sys.executable, "-c", program], check=True)
