"""What of the quantizers needs none of their tools."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest

from largeforge.errors import BuildError
from largeforge.quantizers import _imported, nf4
from largeforge.quantizers._llm_compressor import batches
from largeforge.recipe import extensions
from largeforge.recipe.quantization import Quantizer, QuantizingJob, settings_of
from largeforge.serving import precision


def test_rows_are_put_together_without_padding_or_cutting_any():
    rows = [[1] * 300, [2] * 20, [3] * 20, [4] * 300, [5] * 7]
    found = batches(rows)
    assert sorted(row for batch in found for row in batch) == sorted(rows)
    assert all(len({len(row) for row in batch}) == 1 for batch in found)
    assert [len(batch) for batch in found] == [1, 2, 1, 1]


def test_nf4_is_a_line_in_the_configuration(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2", "dtype": "float32"}))
    out = tmp_path / "out"
    out.mkdir()
    nf4.quantize(nf4.Config(), QuantizingJob(str(tmp_path), str(out), "cuda"))
    written = json.loads((out / "config.json").read_text())
    assert written["model_type"] == "qwen2"
    assert written["quantization_config"]["bnb_4bit_quant_type"] == "nf4"


def test_choices_after_the_first_are_calibrated_and_judged_as_it_is():
    gptq = extensions.load("quantization", "gptq")
    first = gptq.Config(fallback=["w8a8", "none"], calibration_rows=7, acceptance={"margin": 0.5}, group_size=32)
    found = settings_of(first)
    assert [one["name"] for one in found] == ["gptq", "w8a8", "none"]
    assert found[1]["calibration_rows"] == 7
    assert found[1]["acceptance"]["margin"] == 0.5
    assert found[1]["algorithm"] == "gptq"
    assert found[2]["fallback"] == []


@pytest.mark.parametrize("name", [name for name in extensions.names("quantization") if name != "none"])
def test_each_has_what_a_stage_asks_of_it(name):
    module = extensions.load("quantization", name)
    assert issubclass(module.Config, Quantizer)
    assert module.calibrated(module.Config()) in (True, False)
    assert module.ENVIRONMENT in ("", "autoawq", "llm_compressor")


@pytest.mark.parametrize(
    ("config", "dtype"),
    [
        ({"quant_method": "awq"}, "float16"),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized"}, "float16"),
        ({"quant_method": "compressed-tensors", "format": "int-quantized"}, "float32"),
        (None, "float32"),
    ],
)
def test_weights_of_4_bits_are_served_in_16_on_a_cpu(config, dtype, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": config}))
    assert precision.on_cpu(str(tmp_path)) == dtype
    assert precision.on_cpu("Qwen/Qwen2.5-7B") == "float32"


def test_other_packages_than_were_built_with_are_noticed(monkeypatch, tmp_path):
    module = ModuleType("lf_probe")
    module.__version__, module.__file__ = "1.0+cpu", str(tmp_path / "lf_probe" / "__init__.py")
    monkeypatch.setitem(sys.modules, "lf_probe", module)
    monkeypatch.setattr(_imported.metadata, "packages_distributions", lambda: {"lf_probe": ["lf_probe"]})
    assert _imported.check({"lf-probe": "1.0"}, own={"lf-probe": "1.0"}, folder=tmp_path) == {"lf-probe": "1.0+cpu"}
    with pytest.raises(BuildError, match=r"lf-probe 1\.0\+cpu was imported, 2\.0 was expected"):
        _imported.check({"lf-probe": "2.0"}, own={}, folder=tmp_path)
    with pytest.raises(BuildError, match="not from"):
        _imported.check({"lf-probe": "1.0"}, own={"lf-probe": "1.0"}, folder=tmp_path / "env")
