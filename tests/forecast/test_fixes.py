"""Changes of a recipe are applied as the command line would apply them, and measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from largeforge.estimate.memory import Memory
from largeforge.forecast.fixes import Change, changed, ranked
from largeforge.forecast.stage import Forecast
from largeforge.recipe.compose import compose
from largeforge.recipe.validate import validate


@pytest.fixture(scope="module")
def recipe():
    return validate(compose(["+recipe=sft_qwen7b"]))


ROWS = "method.per_device_train_batch_size"


def by_rows(recipe):
    """Return a forecast of one byte per row, twice that without checkpointing, of 10 that can be used."""
    size = recipe.method.per_device_train_batch_size * (2 if recipe.method.gradient_checkpointing == "off" else 1)
    return Forecast(memory=Memory({"step": {"activations": float(size)}}), usable_bytes=10)


def given(recipe, rows, checkpointing):
    method = recipe.method.model_copy(
        update={"per_device_train_batch_size": rows, "gradient_checkpointing": checkpointing}
    )
    return recipe.model_copy(update={"method": method})


def batches(*sizes):
    return [Change(((ROWS, size),)) for size in sizes]


CHECKPOINTING = [Change((("method.gradient_checkpointing", "on"),), "slower")]


@pytest.mark.parametrize(
    "change",
    [((ROWS, 3),), (("adapter", "none"), ("merge", False)), (("serving.extra.kv-cache-dtype", "fp8"),)],
    ids=str,
)
def test_a_change_is_what_the_command_line_makes_of_it(recipe, change):
    words = str(Change(change)).split()
    composed = validate(
        compose(["+recipe=sft_qwen7b", *(word if "extra" not in word else f"+{word}" for word in words)])
    )
    assert changed(recipe, Change(change)) == composed


@pytest.mark.parametrize(
    "change", [((ROWS, 0),), (("adapter", "none"),)], ids=["out of range", "merge needs an adapter"]
)
def test_a_change_that_makes_no_valid_recipe_is_none(recipe, change):
    assert changed(recipe, Change(change)) is None


def test_the_mildest_change_of_a_kind_that_fits_is_offered(recipe):
    now = given(recipe, 16, "on")
    fixes = ranked(now, by_rows(now), [batches(8, 4, 2)], by_rows)
    assert [str(fix.change) for fix in fixes] == [f"{ROWS}=8"]
    assert fixes[0].saves_bytes == 8


def test_what_fits_comes_first_and_the_rest_by_what_it_saves(recipe):
    now = given(recipe, 12, "off")
    fixes = ranked(now, by_rows(now), [batches(6), CHECKPOINTING, batches(5)], by_rows)
    assert [str(fix.change) for fix in fixes] == [f"{ROWS}=5", f"{ROWS}=6", "method.gradient_checkpointing=on"]
    assert [fix.fits for fix in fixes] == [True, False, False]


def test_a_combination_takes_as_little_of_each_kind_as_fits(recipe):
    now = given(recipe, 64, "off")
    fixes = ranked(now, by_rows(now), [batches(32, 16, 9), CHECKPOINTING], by_rows)
    assert str(fixes[0].change) == f"{ROWS}=9 method.gradient_checkpointing=on"
    assert fixes[0].change.effect == "slower"
    assert not any(fix.fits for fix in fixes[1:])


def test_changes_that_gain_next_to_nothing_are_not_worth_a_line(recipe):
    now = given(recipe, 1000, "on")
    assert ranked(now, by_rows(now), [batches(990)], by_rows) == []


def test_a_peak_within_the_uncertainty_is_tight_and_what_it_could_do_without_does_not_count():
    base = Forecast(memory=Memory({"step": {"weights": 95.0}}), usable_bytes=100)
    assert base.verdict == "tight"
    assert replace(base, usable_bytes=200).verdict == "fits"
    assert replace(base, usable_bytes=90).verdict == "too big"
    assert replace(base, spare_bytes=50).verdict == "fits"
    assert replace(base, refusal="no").verdict == "too big"
    assert replace(base, memory=None).verdict == "unknown"
