"""The tool as a child process: what is told of it, and what is said when it does not come to an end of its own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from largeforge import loadtest, reaper
from largeforge.errors import DataError, LoadTestError
from largeforge.loadtest import running
from largeforge.recipe.schema import LoadTest

FAKE = str(Path(__file__).with_name("fake_tool.py"))


@pytest.fixture(autouse=True)
def _nothing_is_left():
    yield
    assert reaper.descendants(os.getpid()) == []


def load(tmp_path: Path, behaviour: str = "model", *, notes: list[str] | None = None, **fields: Any) -> loadtest.Report:
    options = {key: fields.pop(key) for key in ("progress", "watch", "python") if key in fields}
    section = LoadTest.model_validate({
        "requests_per_second": 4, "num_requests": 8, "prompt_tokens": 9, "completion_tokens": 3, **fields
    })  # fmt: skip
    return loadtest.run(
        section, "http://127.0.0.1:9", tokenizer=f"/models/{behaviour}", work_folder=tmp_path,
        report=(notes if notes is not None else []).append, **{"python": FAKE, **options},
    )  # fmt: skip


def test_each_rate_is_run_from_the_lowest_up_and_told_of(tmp_path):
    notes: list[str] = []
    found = load(tmp_path, notes=notes, steps=[8, 2])
    assert [step.requests_per_second for step in found.steps] == [2, 4, 8]
    assert found.metrics["ttft_p95_ms"] == pytest.approx(50)
    assert notes[0] == "load test at 2 requests/s: 8 requests"
    assert "load test at 2 requests/s: 8 of 8 answered" in notes
    assert notes[-1] == (
        "load test at 8 requests/s: ttft p95 50 ms, inter-token p95 10 ms, e2e p95 70 ms, goodput 100.0%"
    )
    assert not list(tmp_path.rglob("result.json")), "what was answered is removed"


def test_progress_takes_the_place_of_lines(tmp_path):
    notes, steps = [], []
    load(tmp_path, notes=notes, progress=lambda done, count: steps.append((done, count)))
    assert steps[-1] == (8, 8)
    assert not [note for note in notes if "of 8 answered" in note]


def test_what_is_asked_is_not_kept_and_a_second_time_is_told(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "private words"}) + "\n")
    notes: list[str] = []
    load(tmp_path / "work", notes=notes, path=str(rows))
    assert (
        notes[0] == "load test at 4 requests/s: 8 requests, of 1 rows, some more than once: the prefix cache has them"
    )
    assert not [path for path in (tmp_path / "work").rglob("*") if path.is_file() and "private" in path.read_text()]


def test_answers_that_do_not_come_end_the_test(tmp_path):
    with pytest.raises(LoadTestError, match=r"4 of 8 requests are answered 2 s after .* load_test\.drain_timeout_s"):
        load(tmp_path, "hangs", num_requests=8, requests_per_second=80, drain_timeout_s=2)


def test_the_death_of_what_is_tested_ends_the_test(tmp_path):
    def watch() -> None:
        if (tmp_path / "load_test-4" / "tool.log").is_file():
            raise RuntimeError("the server has died")

    with pytest.raises(RuntimeError, match="the server has died"):
        load(tmp_path, "hangs", watch=watch)


def test_a_tool_that_fails_says_its_last_words(tmp_path):
    with pytest.raises(LoadTestError, match=r"exit code 3:\n(?s:.*)ValueError: the tokenizer is not for this") as fault:
        load(tmp_path, "dies")
    assert "nanobind" not in str(fault.value)
    assert str(tmp_path / "load_test-4" / "tool.log") in str(fault.value)
    with pytest.raises(LoadTestError, match="exit code 0"):
        load(tmp_path, "silent")


def test_an_interpreter_without_vllm_is_named(tmp_path):
    with pytest.raises(LoadTestError, match=r"fake_tool\.py has no vLLM.* set serving\.python"):
        load(tmp_path, "bare")
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(LoadTestError, match=r"python has no vLLM.* set serving\.python"):
        load(tmp_path, python=str(bare))


def test_nobody_who_answers_is_no_result(tmp_path):
    with pytest.raises(LoadTestError, match=r"none of 8 requests was answered: Bad Request \(8\); a prompt with"):
        load(tmp_path, "refused")


def test_a_tool_that_never_sends_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "STARTUP_TIMEOUT_S", 0.0)
    monkeypatch.setattr(running, "_BEGUN", "never said")
    with pytest.raises(LoadTestError, match="sent nothing in 0 s"):
        load(tmp_path, "hangs")


def test_rows_that_ask_nothing_are_found_before_anything_runs(tmp_path):
    with pytest.raises(DataError, match="no/such"):
        load(tmp_path, path="/no/such.jsonl")
    assert not list(tmp_path.iterdir())
