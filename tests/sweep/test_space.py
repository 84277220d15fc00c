"""What a word of `-m` ranges over."""

from __future__ import annotations

import pytest

from largeforge.errors import RecipeError
from largeforge.sweep.space import Space, grid, listed_choices, read_space


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("a.b=1e-4,1e-3", ("0.0001", "0.001")),
        ("a.b=choice(8,16)", ("8", "16")),
        ("+seed=range(0,3)", ("0", "1", "2")),
        ("a=range(0,1,0.5)", ("0.0", "0.5")),
        ("a='x,y',z", ("'x,y'", "z")),
        ("a=[1,2],[3]", ("[1,2]", "[3]")),
        ("a=1,1,2", ("1", "2")),
    ],
)
def test_lists_and_ranges_have_their_values_as_texts(word: str, values: tuple[str, ...]) -> None:
    space = read_space(word)
    assert space is not None
    assert space.values == values
    assert space.word(values[0]) == f"{word.partition('=')[0]}={values[0]}"


def test_a_word_with_one_value_is_no_space() -> None:
    assert read_space("a.b=1e-4") is None
    assert read_space("a=[1,2]") is None


def test_an_interval_keeps_its_ends_its_log_and_whole_numbers() -> None:
    space = read_space("a=tag(log, interval(1e-5, 1e-2))")
    assert space is not None
    assert (space.is_interval, space.is_log, space.low, space.high) == (True, True, 1e-5, 1e-2)
    assert space.probes == ("1e-05", "0.01")
    assert space.text(0.00123456) == "0.001235"
    assert space.text(0.0099999) == "0.01"
    whole = read_space("a=int(interval(8, 64))")
    assert whole is not None
    assert whole.text(9) == "9"


@pytest.mark.parametrize("word", ["a=interval(2,1)", "a=interval(1,1)", "a=tag(log, interval(0,1))"])
def test_an_interval_without_numbers_is_refused(word: str) -> None:
    with pytest.raises(RecipeError, match="interval"):
        read_space(word)


def test_an_axis_is_logarithmic_where_values_lie_far_apart() -> None:
    assert Space("a", values=("1e-4", "1e-3", "1e-2")).is_log
    assert not Space("a", values=("8", "16", "32")).is_log
    assert not Space("a", values=("0", "1000")).is_log
    assert not Space("a", values=("linear", "cosine")).is_log


def test_a_grid_has_every_combination_the_last_key_fastest() -> None:
    spaces = [Space("a", values=("1", "2")), Space("b", values=("x", "y"))]
    assert [tuple(values.values()) for values in grid(spaces)] == [("1", "x"), ("1", "y"), ("2", "x"), ("2", "y")]
    assert list(grid([])) == [{}]


def test_a_grid_over_an_interval_names_what_can_choose_from_it() -> None:
    with pytest.raises(RecipeError, match="sweep=optuna"):
        grid([Space("a", low=0, high=1)])


def test_a_grid_too_large_to_plan_is_refused() -> None:
    many = tuple(str(index) for index in range(200))
    with pytest.raises(RecipeError, match="40,000 combinations"):
        grid([Space("a", values=many), Space("b", values=many)])


def test_choices_of_a_group_can_be_matched() -> None:
    assert listed_choices("adapter=glob(lo*)") == "adapter=lora"
    assert listed_choices("adapter=choice(lora,none)") == "adapter=lora,none"
    assert listed_choices("method.learning_rate=1,2") == "method.learning_rate=1,2"
    with pytest.raises(RecipeError, match="no choice of this group"):
        listed_choices("adapter=glob(zzz*)")
