"""Only weights and how they are quantized come from the tool; everything else is the original's."""

from __future__ import annotations

import json

import pytest

from largeforge.errors import StageError
from largeforge.quantizing import folder


@pytest.fixture
def original(tmp_path):
    path = tmp_path / "original"
    path.mkdir()
    files = {
        "config.json": json.dumps({"model_type": "qwen2", "dtype": "float32"}),
        "generation_config.json": '{"do_sample": false}', "tokenizer.json": "{}", "chat_template.jinja": "{{ m }}",
        "model.safetensors": "w" * 100, "README.md": "about the original",
    }  # fmt: skip
    for name, text in files.items():
        (path / name).write_text(text)
    return path


def made(tmp_path, **files):
    path = tmp_path / "made"
    path.mkdir()
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(text)
    return path


def test_what_a_tool_changed_besides_weights_is_undone(original, tmp_path):
    theirs = {"model_type": "qwen2", "use_cache": False, "quantization_config": {"quant_method": "awq"}}
    path = made(
        tmp_path, config__json=json.dumps(theirs), model__safetensors="q" * 30, tokenizer__json="other",
        generation_config__json='{"do_sample": true}', recipe__yaml="x",
    )  # fmt: skip
    folder.complete(original, path)
    assert sorted(file.name for file in path.iterdir()) == [
        "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip
    assert json.loads((path / "config.json").read_text()) == {
        "model_type": "qwen2", "dtype": "float32", "quantization_config": {"quant_method": "awq"},
    }  # fmt: skip
    assert json.loads((path / "generation_config.json").read_text()) == {"do_sample": False}
    assert (path / "tokenizer.json").read_text() == "{}"
    assert folder.weights_bytes(path) == 30


def test_a_model_that_is_quantized_as_it_is_loaded_keeps_its_weights(original, tmp_path):
    path = made(tmp_path, config__json=json.dumps({"quantization_config": {"quant_method": "bitsandbytes"}}))
    folder.complete(original, path)
    assert folder.weights_bytes(path) == 100


@pytest.mark.parametrize("files", [{}, {"config__json": "{}", "model__safetensors": "q"}])
def test_a_tool_that_left_nothing_quantized_is_refused(files, original, tmp_path):
    with pytest.raises(StageError, match=r"config\.json"):
        folder.complete(original, made(tmp_path, **files))
