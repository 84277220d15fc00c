"""`largeforge estimate` answers for any model on any hardware, before there is a recipe."""

from __future__ import annotations

import json
import re

import pytest

from tests.in_process import largeforge


def estimate(*words, cwd=None):
    return largeforge("estimate", *words, cwd=cwd, COLUMNS="120", HF_HUB_OFFLINE="1", HOME=str(cwd or "/nowhere"))


def numbers(*words, cwd=None):
    """Return the answers as `{(hardware, case): fields}`."""
    done = estimate(*words, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return {(case["hardware"], case["case"]): case for case in json.loads(done.stdout)}


def test_it_tells_on_which_cards_a_model_can_be_trained_and_how(tmp_path):
    done = estimate("qwen2_5_7b_instruct", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if " GiB " in line}
    assert {"rtx_3090", "rtx_4090", "rtx_5090", "a10", "l4", "l40s", "a100_40gb", "h100", "h200", "mi300x"} <= set(rows)
    assert re.search(r"too big .* fits .* fits", rows["rtx_4090"])
    assert rows["h100"].count("fits") == 3


def test_more_rows_longer_rows_and_a_second_answer_take_more_memory():
    card = ("--hardware", "h100", "--adapter", "lora")
    one = numbers("llama_3_2_1b_instruct", *card)["h100", "LoRA 16"]["peak_gib"]
    for more in (["--batch", "4"], ["--length", "8192"], ["--method", "dpo"], ["--checkpointing", "off"]):
        assert numbers("llama_3_2_1b_instruct", *card, *more)["h100", "LoRA 16"]["peak_gib"] > one


def test_sharding_over_gpus_divides_what_each_holds():
    words = ("qwen2_5_14b_instruct", "--hardware", "a100_80gb", "--adapter", "none")
    alone = numbers(*words)["a100_80gb", "all weights"]["memory_gib"]
    spread = numbers(*words, "--gpus", "8")["a100_80gb", "all weights"]["memory_gib"]
    assert spread["weights"] + spread["optimizer"] < (alone["weights"] + alone["optimizer"]) / 3
    same = numbers(*words, "--gpus", "8", "--sharding", "ddp")["a100_80gb", "all weights"]["memory_gib"]
    assert same["weights"] == alone["weights"]


def test_a_teacher_and_generated_answers_are_counted():
    card = ("--hardware", "h100", "--adapter", "lora")
    teacher = numbers("qwen3_0_6b", "--method", "distill", "--teacher", "qwen3_4b", *card)
    assert teacher["h100", "LoRA 16"]["memory_gib"]["reference"] > 7  # 4.0 B parameters in bf16
    grpo = ("qwen3_0_6b", "--method", "grpo", "--batch", "8", *card)
    few, many = (numbers(*grpo, "--accumulation", steps)["h100", "LoRA 16"] for steps in ("1", "8"))
    assert many["memory_gib"]["kv_cache"] > 12  # trl answers the prompts of a whole step at once
    assert many["peak_gib"] > few["peak_gib"]


def test_serving_says_how_many_requests_fit_and_how_fast():
    found = numbers("qwen2_5_7b_instruct", "--serve", "--length", "4096")
    assert found["rtx_4060_ti_16gb", "vLLM"]["verdict"] == "too big"
    assert found["h100", "vLLM"]["verdict"] == "fits"
    text = estimate("qwen2_5_7b_instruct", "--serve", "--hardware", "l4,h100").stdout
    small, large = (int(line.split()[4]) for line in text.splitlines() if " GiB " in line)
    assert 0 < small < large


def test_a_folder_with_a_config_is_enough(tmp_path):
    config = {
        "model_type": "llama", "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 4,
        "num_attention_heads": 8, "vocab_size": 32000, "tie_word_embeddings": True,
    }  # fmt: skip
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps(config))
    done = estimate("mine", "--hardware", "rtx_4090", cwd=tmp_path)
    assert "27 M parameters" in done.stdout, done.stderr


def test_what_the_numbers_rest_on_and_what_else_is_in_the_way_is_said(tmp_path):
    config = {
        "model_type": "martian", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 300, "max_position_embeddings": 512,
        "quantization_config": {"quant_method": "zip"},
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    out = estimate(str(tmp_path), "--serve", "--gpus", "3", "--hardware", "l4").stdout
    assert "model_type 'martian' is not known" in out
    assert "its weights are zip, and counted as bf16" in out
    assert "l4: tensor_parallel_size = 3 does not divide the 4 attention heads" in out
    assert "requests of 512 tokens, the most that it can read" in out
    (case,) = numbers(str(tmp_path), "--serve", "--gpus", "3", "--hardware", "l4").values()
    assert "does not divide" in case["refusal"]


def test_no_more_requests_run_side_by_side_than_vllm_lets():
    found = estimate("qwen3_0_6b", "--serve", "--length", "256", "--hardware", "h100,a100_80gb").stdout
    rows = {line.split()[0]: line.split() for line in found.splitlines() if line.startswith(("h100", "a100"))}
    assert (rows["h100"][4], rows["a100_80gb"][4]) == ("1024", "256")


def test_an_own_profile_counts_like_a_shipped_one(tmp_path):
    folder = tmp_path / "conf" / "hardware"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("name: mine\ndevice: cuda\ngpu: My Card\nmemory_gib: 48\nusable_memory_gib: 47\n")
    found = numbers("qwen3_4b", "--hardware", "mine", cwd=tmp_path)
    assert found["mine", "LoRA 16"]["usable_gib"] == 47
    assert ("mine", "LoRA 16") in numbers("qwen3_4b", cwd=tmp_path)
    (folder / "mine.yaml").write_text("name: mine\nmemory: 48\n")
    done = estimate("qwen3_4b", "--hardware", "mine", cwd=tmp_path)
    assert done.returncode == 2
    assert "conf/hardware/mine.yaml: memory" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["qwen2_5_7b_instruc"], "Did you mean 'qwen2_5_7b_instruct'?"),
        (["hub:nobody/unheard-of"], "not known: hub:nobody/unheard-of: no config.json"),
        (["qwen3_0_6b", "--hardware", "h10"], "Did you mean 'h100'?"),
        (["qwen3_0_6b", "--method", "distill"], "--teacher: is required"),
        (["qwen3_0_6b", "--optimizer", "magic"], "--optimizer = 'magic'"),
        (["qwen3_0_6b", "--batch", "0"], "must be a whole number from 1 to 999999999, not '0'"),
        (["qwen3_0_6b", "--gpus", "two"], "must be a whole number from 1 to 999999999, not 'two'"),
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_message(words, message):
    done = estimate(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
