"""A load test that fits the topology that it is for, and gates on what it measures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from largeforge.errors import Problem, listed, nearest
from largeforge.recipe import promises
from largeforge.recipe.sections.load_test import METRICS, OF_SLO

if TYPE_CHECKING:
    from largeforge.recipe.schema import Goodput, LoadTest, Recipe, Topology


def check(recipe: Recipe) -> Iterator[Problem]:
    """Yield what is wrong between a recipe's load test and the rest of it."""
    if recipe.load_test is None:
        return
    given, test = recipe.load_test, promises.load_test(recipe.load_test, recipe.serving.targets, recipe.slo)
    if recipe.topology is None:
        yield Problem("load_test", "needs a topology whose experts are asked; choose one with +topology=…")
    else:
        yield from _expert(test, recipe.topology)
    if not test.requests_per_second:
        rule = "is required: requests that arrive in a second, here or in serving.targets.requests_per_second."
        yield Problem("load_test.requests_per_second", rule)
    yield from _gates(given, test.slo)
    yield from _lengths(test, recipe.serving.max_model_len)


def _expert(test: LoadTest, topology: Topology) -> Iterator[Problem]:
    writers = [name for name, expert in topology.experts.items() if expert.task == "generate"]
    if test.expert == "auto" and not writers:
        yield Problem("load_test.expert", "no expert of the topology writes answers (task: generate).")
    elif test.expert != "auto" and test.expert not in writers:
        task = f"has task: {topology.experts[test.expert].task}; it " if test.expert in topology.experts else ""
        rule = f"{task}must be auto, or an expert that writes answers: {listed(writers)}."
        yield Problem("load_test.expert", rule, nearest=nearest(test.expert, writers))


def _gates(test: LoadTest, goodput: Goodput) -> Iterator[Problem]:
    for metric in test.gates:
        if metric not in METRICS:
            rule = f"no such metric of a load test; there is: {listed(METRICS)}."
            yield Problem(f"load_test.gates.{metric}", rule, nearest=nearest(metric, METRICS))
        elif metric in OF_SLO and not goodput.is_given:
            rule = "is judged by load_test.slo, which asks for nothing: give ttft_ms, inter_token_ms or e2e_ms there."
            yield Problem(f"load_test.gates.{metric}", rule)


def _lengths(test: LoadTest, limit: int) -> Iterator[Problem]:
    prompt = 0 if test.path else math.ceil(test.prompt_tokens * (1 + test.prompt_tokens_spread))
    answer = math.ceil(test.completion_tokens * (1 + test.completion_tokens_spread))
    if limit and prompt + answer > limit:
        prompts = "" if test.path else f"prompts of up to {prompt} and "
        rule = f"{prompts}answers of up to {answer} tokens are over serving.max_model_len = {limit}."
        yield Problem("load_test.completion_tokens" if test.path else "load_test.prompt_tokens", rule)
