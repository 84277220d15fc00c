"""The verdict on a quantized model: plain numbers in, a table and a reason out."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from largeforge.quantizing.acceptance import Measured, Side, accepts, difference, surely_above
from largeforge.recipe.quantization import Acceptance

RULES = Acceptance()
ORIGINAL = Side(1000.0, 2000.0, (100.0, 110.0, 90.0, 105.0, 95.0), (-1.0, -0.5, -2.0, -0.1, -0.7, -1.2))
BETTER = Side(300.0, 900.0, (150.0, 140.0, 160.0, 155.0, 145.0), (-1.005, -0.5, -2.01, -0.1, -0.69, -1.2))
GOOD = Measured(ORIGINAL, BETTER, agreement=0.99)


def but(**changes) -> Measured:
    return replace(GOOD, quantized=replace(BETTER, **changes))


def test_smaller_faster_and_as_good_is_accepted():
    verdict = accepts(GOOD, RULES)
    assert verdict.accepted
    assert verdict.refusal == ""
    assert [row[0] for row in verdict.table()] == ["nats a token", "tokens/s", "memory", "size on disk"]
    assert {row[-1] for row in verdict.table()} == {"met"}


@pytest.mark.parametrize(
    ("measured", "what"),
    [
        (but(tokens_per_s=(80.0, 85.0, 75.0, 82.0, 79.0)), "tokens/s is 0.80 ×"),
        (but(tokens_per_s=(150.0, 140.0, 89.0, 155.0, 145.0)), "tokens/s is 1.48 × (at least 0.99, 5 rounds)"),
        (but(tokens_per_s=()), "tokens/s is unknown"),
        (but(memory_bytes=2000.0), "memory is 1.000 ×"),
        (but(memory_bytes=math.nan), "memory is nan ×"),
        (but(size_bytes=1000.0), "size on disk is 1.000 ×"),
        (but(scores=tuple(score - 0.05 for score in ORIGINAL.scores)), "nats a token is -0.0500"),
        (but(scores=(*ORIGINAL.scores[:5], math.nan)), "nats a token is -inf"),
        (but(scores=(*ORIGINAL.scores[:5], -math.inf)), "nats a token is -inf"),
        (
            replace(GOOD, original=replace(ORIGINAL, scores=(-1.0,)), quantized=replace(BETTER, scores=(-1.0,))),
            "(too few rows: 1)",
        ),
    ],
)
def test_each_shortcoming_is_refused_and_named(measured, what):
    if not measured.quantized.tokens_per_s:
        measured = replace(measured, original=replace(ORIGINAL, tokens_per_s=()))
    verdict = accepts(measured, RULES)
    assert not verdict.accepted
    assert what in verdict.refusal
    assert [row[-1] for row in verdict.table()].count("NOT met") == 1


def test_a_loss_that_varies_must_be_surely_within_the_margin():
    noisy = (-0.5, -1.0, -1.5, -0.6, -0.2, -1.7)  # as good on average, by luck as it seems
    mean, low = difference(ORIGINAL.scores, noisy, 0.95)
    assert mean == pytest.approx(0.0, abs=1e-9)
    assert low < -0.1
    assert not accepts(but(scores=noisy), RULES).accepted
    assert accepts(but(scores=noisy), RULES.model_copy(update={"margin": 0.5})).accepted


def test_what_is_quantized_as_it_is_loaded_may_be_as_large_on_disk():
    assert accepts(replace(but(size_bytes=1000.0), at_load=True), RULES).accepted


def test_a_floor_of_agreement_is_asked_only_where_the_recipe_has_one():
    apart = replace(GOOD, agreement=0.5)
    assert accepts(apart, RULES).accepted
    assert "same answers is 50.0%" in accepts(apart, RULES.model_copy(update={"min_agreement": 0.9})).refusal


def test_a_slower_model_is_accepted_only_where_the_recipe_allows_it():
    slower = but(tokens_per_s=(80.0, 85.0, 75.0, 82.0, 79.0))
    assert accepts(slower, RULES.model_copy(update={"min_speed_ratio": 0.7})).accepted


def test_bounds_of_a_median_hold_for_any_distribution():
    assert surely_above([3.0, 1.0, 2.0], 0.95) == -math.inf  # the smallest of three lies above it once in eight times
    assert surely_above([5.0, 1.0, 2.0, 3.0, 4.0], 0.95) == 1.0
    assert surely_above([float(n) for n in range(8)], 0.95) == 1.0
