"""Files that evaluators name are found, and are part of what an evaluation is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from largeforge.errors import RecipeError, StageError
from largeforge.planning import make_plan
from largeforge.recipe.compose import compose
from largeforge.recipe.validate import validate
from largeforge.stages.own_rows import read_own_rows

RECIPE = """# @package _global_
defaults:
  - /model: tiny_general
  - /dataset: jsonl
  - /method: sft
  - /adapter: none
  - override /hardware: cpu
  - _self_
name: mine
dataset: {path: rows.jsonl}
judging: {engine: vllm}
evaluation:
  safety: {name: refusal, path: recipe:unsafe.jsonl}
  lm_eval: {name: lm_eval, tasks: [mine], include_path: tasks}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("recipes", "tasks"):
        (tmp_path / name).mkdir()
    (tmp_path / "recipes/mine.yaml").write_text(RECIPE)
    (tmp_path / "recipes/unsafe.jsonl").write_text('{"prompt": "a"}\n')
    (tmp_path / "tasks/mine.yaml").write_text("task: mine\n")
    rows = "".join(json.dumps({"prompt": str(n), "response": "b"}) + "\n" for n in range(9))
    (tmp_path / "rows.jsonl").write_text(rows)
    return tmp_path


def fingerprints() -> dict[str, str]:
    composition = compose(["+recipe=mine"])
    plan = make_plan(validate(composition), recipe_folder=composition.recipe_folder)
    return {stage.kind: stage.fingerprint for stage in plan.stages}


def test_other_content_is_another_evaluation_of_the_same_training(folder):
    first = fingerprints()
    assert fingerprints() == first
    for name, text in (("recipes/unsafe.jsonl", '{"prompt": "other"}\n'), ("tasks/mine.yaml", "task: mine\nx: 1\n")):
        before = fingerprints()
        (folder / name).write_text(text)
        after = fingerprints()
        assert after["evaluate"] != before["evaluate"], name
        assert after["train"] == before["train"]


def test_a_path_that_leads_out_of_the_recipes_is_refused(folder):
    (folder / "recipes/mine.yaml").write_text(RECIPE.replace("recipe:unsafe", "recipe:../unsafe"))
    with pytest.raises(RecipeError, match=r"evaluation\.safety\.path.*leads out of the folder of recipes"):
        fingerprints()


def test_what_needs_a_server_is_refused_without_one(folder):
    (folder / "recipes/mine.yaml").write_text(RECIPE.replace("engine: vllm", "engine: auto"))
    with pytest.raises(RecipeError, match=r"evaluation\.lm_eval.*set judging\.engine=vllm"):
        fingerprints()


@pytest.mark.parametrize(
    ("line", "said"),
    [('{"answer": "x"}', "no prompt"), ("{", "JSONDecodeError"), ('{"prompt": [{"role": "user"}]}', "content"),
     ('["a"]', "AttributeError")],
)  # fmt: skip
def test_a_broken_row_is_named(tmp_path, line, said):
    (tmp_path / "rows.jsonl").write_text(f'{{"prompt": "a"}}\n{line}\n')
    with pytest.raises(StageError, match=rf"rows\.jsonl:2: .*{said}"):
        read_own_rows(tmp_path / "rows.jsonl")


def test_a_conversation_is_asked_without_its_last_answer(tmp_path):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": turns, "tests": "t"}) + "\n")
    (row,) = read_own_rows(tmp_path / "rows.jsonl")
    assert (row["prompt"], row["answer"], row["tests"]) == (turns[:1], "b", "t")
