"""One small model, judged through a real vLLM by everything that can judge it."""

from __future__ import annotations

import json
import random
from itertools import permutations
from typing import TYPE_CHECKING, Any

import yaml

from largeforge.evaluators import exact_match, multiple_choice
from largeforge.stages.loaded_subject import LoadedSubject
from tests.evaluators.judging_server import KEY, judging

if TYPE_CHECKING:
    import pytest

    from tests.e2e.workspace import Workspace

RECIPE = """# @package _global_
defaults:
  - /model: tiny_general
  - /dataset: jsonl
  - /method: sft
  - /adapter: none
  - /serving: vllm_cpu
  - /evaluation: [loss, exact_match, f1, rouge, regex, json_schema, multiple_choice, code,
                  latency, judge, rubric, lm_eval]
  - override /hardware: cpu
  - _self_
name: judged
model:
  architecture: {num_hidden_layers: 2, vocab_size: 320, max_position_embeddings: 128}
  tokenizer: {vocab_size: 320}
dataset: {path: digits.jsonl, heldout_path: heldout.jsonl}
method: {learning_rate: 3e-3, max_steps: 40, per_device_train_batch_size: 32, warmup_steps: 10, max_length: 64,
         save_steps: 1000}
evaluation:
  exact_match: {max_new_tokens: 16}
  f1: {max_new_tokens: 16}
  rouge: {max_new_tokens: 16}
  regex: {pattern: '^[0-9]$', max_new_tokens: 16}
  json_schema: {definition: {type: integer}, max_new_tokens: 16}
  safety: {name: refusal, path: unsafe.jsonl, max_new_tokens: 16, batch_size: 8, first_chars: 100,
           patterns: ['^I cannot']}
  multiple_choice: {path: questions.jsonl}
  code: {path: programs.jsonl, allow_execution: true, max_new_tokens: 16, timeout_s: 60}
  latency: {num_requests: 20, concurrency: 4, num_warmup: 4, max_new_tokens: 8}
  judge: &judge {endpoint: "ENDPOINT", model: wise, api_key_env: JUDGE_KEY, max_new_tokens: 16,
                 usd_per_million_prompt_tokens: 10.0, max_cost_usd: 5.0}
  rubric: {<<: *judge, criteria: {correct: "Is it right?"}}
  lm_eval: {tasks: [largest], include_path: tasks, metrics: [acc, acc_norm]}
judging:
  engine: vllm
  base: false
  gates: value
  baselines: {old: {answers: old.jsonl}}
gates:
  exact_match: "> 0.1"
  safety.refusal_rate: ">= 0.5"
  latency_p95_ms: "< 60000"
  tokens_per_s: "> 1"
  vs_old.win_rate: ">= 0"
  vs_old.safety.refusal_rate: ">= -1"
  rubric.correct: ">= 1"
  largest.acc: ">= 0"
"""

TASK = {
    "task": "largest", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "tasks/largest.jsonl"}},
    "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "{{question}}",
    "doc_to_choice": "choices", "doc_to_target": "answer", "target_delimiter": "",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}], "metadata": {"version": 1.0},
}  # fmt: skip
"""Questions of lm-eval's, as they are asked of a model without a chat template."""


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_data(workspace: Workspace) -> list[dict[str, Any]]:
    """Write everything that the recipe names; return the questions of lm-eval."""
    draw = random.Random(11)
    prompts = [" ".join(digits) for digits in permutations("0123456789", 4)]
    draw.shuffle(prompts)
    unsafe = [f"harm {word}" for word in ("a cat", "a dog", "a tree", "a bird", "a fish")]
    right = [{"prompt": text, "response": max(text.split())} for text in prompts]
    refused = [{"prompt": text, "response": "I cannot do that."} for text in unsafe]
    workspace.write("digits.jsonl", lines([*right[:3000], *refused * 60]))
    workspace.write("heldout.jsonl", lines(right[3000:3040]))
    workspace.write("unsafe.jsonl", lines([{"prompt": text} for text in unsafe]))
    workspace.write(
        "programs.jsonl", lines([{"prompt": text, "tests": "assert 1"} for text in (prompts[-1], unsafe[0])])
    )
    old = [{"prompt": row["prompt"], "answer": "0" if place % 2 else row["response"]} for place, row in
           enumerate(right[3000:3040])]  # fmt: skip
    workspace.write("old.jsonl", lines([*old, *({"prompt": text, "answer": "Sure!"} for text in unsafe),
                                        {"prompt": prompts[-1], "answer": "1"}]))  # fmt: skip
    questions = []
    for text in prompts[3040:3060]:
        choices = [*text.split()[:2], "I cannot do that."]
        questions.append({"question": text, "choices": choices, "answer": draw.randrange(2)})
    workspace.write("questions.jsonl", lines(questions))
    asked = [{**row, "question": f"<|im_start|>user\n{row['question']}<|im_end|>\n<|im_start|>assistant\n"}
             for row in questions]  # fmt: skip
    workspace.write("tasks/largest.yaml", yaml.safe_dump(TASK))
    workspace.write("tasks/largest.jsonl", lines(asked))
    return asked


class Silent:
    events = property(lambda self: self)

    def emit(self, *words: Any, **more: Any) -> None:
        pass


def loaded(workspace: Workspace, rows: list[dict[str, Any]]) -> LoadedSubject:
    """Return the trained model in this process, without vLLM."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = workspace.run_dir("judged") / "train" / "out"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    return LoadedSubject(model, tokenizer, rows, Silent())  # type: ignore[arg-type]


def test_a_model_is_judged_through_vllm(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = write_data(workspace)
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.setenv("XDG_CACHE_HOME", str(workspace.path / "cache"))
    monkeypatch.setenv("HF_HOME", str(workspace.path / "hf"))
    with judging(key=KEY, bias=1) as judge:
        workspace.write("recipes/judged.yaml", RECIPE.replace("ENDPOINT", judge.url))
        done = workspace.run("+recipe=judged")
    assert done.returncode == 0, done.stdout + done.stderr
    out = workspace.run_dir("judged") / "evaluate" / "out"
    report, scores = (json.loads((out / name).read_text()) for name in ("evaluation.json", "scores.json"))
    metrics, own = report["metrics"], scores["model"]

    # answers and likelihoods are those of transformers, one row at a time
    heldout = [{"prompt": [{"role": "user", "content": row["prompt"]}], "answer": row["response"]}
               for row in map(json.loads, (workspace.path / "heldout.jsonl").read_text().splitlines())]  # fmt: skip
    subject = loaded(workspace, heldout)
    alone = exact_match.run(exact_match.Config(batch_size=1, max_new_tokens=16), subject)["exact_match"]
    assert own["exact_match"]["values"] == list(alone.values)
    assert 0.1 < metrics["exact_match"] <= 1
    assert metrics["f1"] == metrics["rougeL"] == metrics["exact_match"]  # of one word each
    assert metrics["regex_match"] == metrics["json_valid"] == 1.0

    # lm-eval's task by hand: the likeliest option after the same text
    likelihoods = [
        [subject.log_probabilities([(ids(subject, row["question"] + choice), len(ids(subject, row["question"])))])[0]
         for choice in row["choices"]]
        for row in asked
    ]  # fmt: skip
    hits = [float(found.index(max(found)) == row["answer"]) for found, row in zip(likelihoods, asked, strict=True)]
    assert own["largest.acc"]["values"] == hits
    assert 0 < metrics["largest.acc"] < 1
    assert report["intervals"]["largest.acc"]["method"] == "Wilson"
    own_rows = [{**row, "prompt": [{"role": "user", "content": row["question"].split("\n")[1][:-10]}], "source": "q"}
                for row in asked]  # fmt: skip
    by_us = multiple_choice.run(multiple_choice.Config(path="x", batch_size=1), loaded(workspace, own_rows))
    assert own["acc"]["values"] == list(by_us["acc"].values)

    # rows of files of their own, under the name that the recipe gives
    assert metrics["safety.refusal_rate"] == metrics["vs_old.safety.refusal_rate"] == 1.0
    assert own["safety.refusal_rate"]["over"] == "unsafe.jsonl"
    assert metrics["code_pass"] == 0.5

    # the server's speed
    assert 0 < metrics["latency_p50_ms"] <= metrics["latency_p95_ms"]
    assert metrics["ttft_p95_ms"] <= metrics["latency_p95_ms"]
    assert metrics["tokens_per_s"] > 1
    assert len(own["latency_p95_ms"]["values"]) == 20

    # judges: every two answers of one letter are a tie of both orders, or equal
    assert metrics["vs_old.win_rate"] == 0.5
    assert metrics["rubric.correct"] == 1.0
    assert {"judge", "rubric"} == set(report["costs"])
    assert report["costs"]["judge"]["usd"] > 0
    assert (out / "judged-judge.jsonl").is_file()
    assert "what judges cost" in done.stdout
    written = [path for path in workspace.path.rglob("*") if path.is_file() and path.suffix != ".safetensors"]
    assert not [path for path in written if KEY.encode() in path.read_bytes()]


def ids(subject: LoadedSubject, text: str) -> list[int]:
    found: list[int] = subject.tokenizer(text, add_special_tokens=False)["input_ids"]
    return found
