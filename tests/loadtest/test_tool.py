"""The tool's command line and environment: what a section asks for reaches it under its own names."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from largeforge.loadtest import tool
from largeforge.recipe.schema import LoadTest, Serving

FOLDER = Path("/work/load_test-4")


def section(**fields: Any) -> LoadTest:
    given = {"requests_per_second": 4.0, "prompt_tokens": 100, "completion_tokens": 20, **fields}
    return LoadTest.model_validate(given)


def options(given: LoadTest, rate: float = 4.0, **more: str) -> dict[str, list[str]]:
    """Return each option of the command line with its words."""
    argv = tool.command(given, rate, url="http://127.0.0.1:8080/", tokenizer="/m", folder=FOLDER, **more)
    found: dict[str, list[str]] = {}
    for word in argv[3:]:
        if word.startswith("--"):
            found[word[2:]] = []
        else:
            found[list(found)[-1]].append(word)
    return found


def test_arrivals_are_poisson_and_open_loop_unless_told_otherwise():
    found = options(section())
    assert found["request-rate"] == ["4.0"]
    assert found["burstiness"] == ["1.0"]
    assert "max-concurrency" not in found
    assert found["num-prompts"] == ["240"], "as many as arrive in a minute"
    told = options(section(burstiness=0.5, max_concurrency=3, num_requests=7))
    assert (told["burstiness"], told["max-concurrency"], told["num-prompts"]) == (["0.5"], ["3"], ["7"])


def test_random_prompts_have_the_lengths_that_were_asked_for():
    found = options(section(prompt_tokens_spread=0.25))
    assert found["dataset-name"] == ["random"]
    assert (found["random-input-len"], found["random-output-len"]) == (["100"], ["20"])
    assert json.loads(found["random-range-ratio"][0]) == {"input": 0.25, "output": 0.0}


def test_rows_take_the_place_of_random_prompts():
    argv = tool.command(
        section(), 4.0, url="http://h", tokenizer="/m", folder=FOLDER, rows="/r.jsonl", python="/v/python"
    )
    assert argv[:3] == ["/v/python", str(tool.DRIVER), "/r.jsonl"]
    found = options(section(), rows="/r.jsonl")
    assert found["dataset-name"] == ["custom"]
    assert found["custom-output-len"] == ["20"]
    assert not [name for name in found if name.startswith("random")]


def test_the_request_goes_to_the_chat_of_the_gateway():
    found = options(section(expert="support", warm_up_requests=2))
    assert (found["base-url"], found["endpoint"]) == (["http://127.0.0.1:8080"], ["/v1/chat/completions"])
    assert (found["model"], found["tokenizer"], found["num-warmups"]) == (["support"], ["/m"], ["2"])
    assert tool.command(section(), 4.0, url="http://h", tokenizer="/m", folder=FOLDER)[0] == sys.executable


def test_the_objective_is_told_under_the_tools_names():
    found = options(section(slo={"ttft_ms": 250, "inter_token_ms": 40.5}))
    assert found["goodput"] == ["ttft:250", "tpot:40.5"]
    assert "goodput" not in options(section())


def test_each_rate_has_prompts_of_its_own():
    given = section(steps=[2.0, 8.0], seed=3)
    assert given.rates == [2.0, 4.0, 8.0]
    assert len({tool.seed(given, rate) for rate in given.rates}) == 3
    assert tool.seed(section(seed=2**22 - 1), 4.0) < 2**32, "numpy takes no more"


def test_a_key_for_another_service_is_not_sent_and_the_loopback_has_no_proxy():
    here = tool.environment("http://127.0.0.1:8080", "/models/m")
    assert here["OPENAI_API_KEY"] == ""
    assert here["HTTP_PROXY"] == here["https_proxy"] == ""
    assert here["HF_HUB_OFFLINE"] == "1"
    there = tool.environment("https://models.example", "org/name", api_key="k")
    assert there["OPENAI_API_KEY"] == "k"
    assert "HTTP_PROXY" not in there
    assert "HF_HUB_OFFLINE" not in there


def test_what_a_section_leaves_out_is_that_of_the_targets():
    targets = Serving.model_validate(
        {"targets": {"requests_per_second": 3, "prompt_tokens": 700, "completion_tokens": 90}}
    ).targets
    found = LoadTest(prompt_tokens=64).completed(targets)
    assert (found.requests_per_second, found.prompt_tokens, found.completion_tokens) == (3, 64, 90)
