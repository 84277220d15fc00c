"""Whether what is served is what was trained."""

from __future__ import annotations

import json
import math

import pytest

from largeforge.judging.parity import Prompt, compare, files_faults


def prompt(**changed):
    same = {
        "trained_ids": [1, 2, 3], "served_ids": [1, 2, 3], "trained_answer": "yes", "served_answer": "yes",
        "trained_logprob": -2.0, "served_logprob": -2.0, "answer_tokens": 4, "source": "rows.jsonl:7",
    }  # fmt: skip
    return Prompt(**{**same, **changed})


def test_the_same_everywhere():
    found = compare([prompt(), prompt(served_answer=" yes\n"), prompt(trained_answer="yes\ufffd")])
    assert (found.same_tokens, found.same_answers, found.logprob_difference, found.examples) == (1, 1, 0, [])


def test_each_difference_is_counted_and_shown_once():
    other = prompt(served_ids=[1, 5, 3], served_answer="no", served_logprob=-4.0)
    found = compare([prompt(), other, other, prompt()])
    assert (found.same_tokens, found.same_answers) == (0.5, 0.5)
    assert found.logprob_difference == pytest.approx((2 * 2.0 / 4) / 4)
    assert found.examples == [
        "the prompt of rows.jsonl:7 has other tokens in the server: token 1 on is [5, 3], trained with [2, 3]",
        "to the prompt of rows.jsonl:7 the server answers 'no', and the trained model 'yes'",
    ]


def test_an_impossible_answer_is_an_infinite_difference_and_an_empty_one_none():
    assert compare([prompt(served_logprob=-math.inf)]).logprob_difference == math.inf
    assert compare([prompt(answer_tokens=0)]).logprob_difference == 0


@pytest.fixture
def folders(tmp_path):
    """Return two equal model folders, and a function that changes a file of the second."""
    files = {
        "tokenizer_config.json": {"eos_token": "</s>", "pad_token": {"content": "<pad>"}, "model_max_length": 9},
        "tokenizer.json": {
            "added_tokens": [{"content": "<tool>", "id": 7, "special": True}, {"content": "x", "id": 8}]
        },
        "generation_config.json": {"eos_token_id": [2, 5], "transformers_version": "1"},
    }
    for name in ("trained", "served"):
        (tmp_path / name).mkdir()
        for file, content in files.items():
            (tmp_path / name / file).write_text(json.dumps(content))

    def change(file, **changes):
        content = {**files[file], **changes}
        (tmp_path / "served" / file).write_text(json.dumps(content))

    return tmp_path / "trained", tmp_path / "served", change


def test_equal_files_have_no_faults(folders):
    trained, served, change = folders
    change("generation_config.json", transformers_version="2")
    change("tokenizer_config.json", model_max_length=10)
    assert files_faults(trained, trained, served) == []


def test_a_lost_special_token_is_named(folders):
    trained, served, change = folders
    change("tokenizer.json", added_tokens=[])
    change("tokenizer_config.json", pad_token="<pad>", eos_token=None)
    assert files_faults(trained, trained, served) == [
        "special token eos_token: trained with '</s>', served with None",
        "special token '<tool>': trained with 7, served with None",
    ]


def test_another_end_of_answers_is_named(folders):
    trained, served, change = folders
    change("generation_config.json", eos_token_id=2, repetition_penalty=1.2)
    assert files_faults(trained, trained, served) == [
        "generation_config.json eos_token_id: trained with [2, 5], served with 2",
        "generation_config.json repetition_penalty: trained with None, served with 1.2",
    ]


def test_lost_generation_settings_are_a_fault_of_a_model_but_not_of_an_adapter(folders):
    trained, served, _ = folders
    (served / "generation_config.json").unlink()
    assert files_faults(trained, trained, served) == ["generation_config.json is missing from what is to be served"]
    (served / "adapter_config.json").write_text("{}")
    assert files_faults(trained, trained, served) == []
