"""A load test that does not fit the rest of the recipe is refused before anything runs."""

from __future__ import annotations

import pytest

from largeforge.errors import RecipeError
from largeforge.recipe.compose import compose
from largeforge.recipe.validate import validate

SERVED = ["+recipe=serve_quickstart", "+load_test.requests_per_second=2"]


def recipe(*words):
    return validate(compose(list(words)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+load_test.gates.ttft_p59_ms='<= 1'"], r"gates\.ttft_p59_ms.*no such metric.*Did you mean 'ttft_p99_ms'"),
        (["+load_test.gates.ttft_p95_ms=fast"], r"load_test\.gates\.ttft_p95_ms.*comparison with a number"),
        (["+load_test.gates.goodput_share='>= 1'"], r"gates\.goodput_share.*load_test\.slo, which asks for nothing"),
        (["+load_test.expert=suport"], r"load_test\.expert.*Did you mean 'support'"),
        (["load_test.requests_per_second=0"], r"load_test\.requests_per_second.*is required"),
        (["+load_test.steps=[0]"], r"load_test\.steps\.0"),
        (["serving.max_model_len=256"], r"prompts of up to 512 and answers of up to 256 tokens are over .* = 256"),
        (["+load_test.path=x.jsonl", "serving.max_model_len=64"], r"completion_tokens.*answers of up to 256 tokens"),
        (["+load_test.ratee=2"], r"load_test\.ratee.*unknown"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_its_place(words, message):
    with pytest.raises(RecipeError, match=message):
        recipe(*SERVED, *words)


def test_an_expert_that_does_not_write_is_not_asked():
    with pytest.raises(RecipeError, match=r"load_test\.expert.*has task: embed; it must be auto"):
        recipe("+recipe=embed_quickstart", "+load_test.requests_per_second=2", "+load_test.expert=embedder")


def test_a_load_test_needs_something_that_is_served():
    with pytest.raises(RecipeError, match=r"load_test.*needs a topology"):
        recipe("+recipe=sft_qwen7b", "+load_test.requests_per_second=2")


def test_what_is_asked_for_in_targets_need_not_be_said_again():
    given = recipe("+recipe=serve_quickstart", "+load_test={}", "serving.targets.requests_per_second=3")
    assert given.load_test.completed(given.serving.targets).rates == [3.0]


def test_the_file_of_rows_is_part_of_the_lock(tmp_path, monkeypatch):
    from largeforge.planning import make_plan

    monkeypatch.chdir(tmp_path)
    digests = set()
    for text in ("Hi", "Hello"):
        (tmp_path / "rows.jsonl").write_text(f'{{"prompt": "{text}"}}\n')
        given = recipe(*SERVED, "+load_test.path=rows.jsonl")
        assert given.load_test.path == str(tmp_path / "rows.jsonl")
        digests.add(make_plan(given).lock["digest"])
    assert len(digests) == 2
