"""What Optuna chooses, as a function of what is known."""

from __future__ import annotations

import math

import pytest

from largeforge.recipe.schema import Sweep
from largeforge.sweep.space import Space
from largeforge.sweep.suggest import Seen, count, suggest

RATE = Space("lr", low=1e-4, high=1e-1, is_tagged_log=True)
RANK = Space("r", values=("8", "16", "32"))
SEED = Space("seed", values=("0", "1", "2"), is_ordered=True)
SETTINGS = Sweep(name="optuna")


def distance(values: dict[str, str]) -> float:
    """Be best at a learning rate of 1e-2 and rank 16."""
    return abs(math.log10(float(values["lr"])) + 2) + (values["r"] != "16")


def search(num: int, settings: Sweep = SETTINGS, known: list[Seen] | None = None) -> list[Seen]:
    history = list(known or [])
    for number in range(len(history), num):
        values = suggest([RATE, RANK], history, settings, number, direction="minimize")
        history.append(Seen(values, distance(values)))
    return history


def test_a_search_that_was_cut_off_goes_on_as_if_it_had_not_been() -> None:
    whole = search(16)
    assert search(16, known=whole[:11]) == whole


def test_the_seed_decides() -> None:
    assert search(3) != search(3, Sweep(name="optuna", seed=1))


def test_tpe_finds_what_random_search_misses() -> None:
    later = search(40)[20:]
    random = search(40, Sweep(name="optuna", sampler="random"))[20:]

    def mean(trials: list[Seen]) -> float:
        return sum(trial.objective or 0 for trial in trials) / len(trials)

    assert mean(later) < 0.7 * mean(random)


def test_values_lie_inside_and_have_four_digits() -> None:
    for trial in search(12):
        assert 1e-4 <= float(trial.values["lr"]) <= 1e-1
        assert len(trial.values["lr"].lstrip("0.").replace(".", "")) <= 4
        assert trial.values["r"] in RANK.values


def test_no_combination_comes_twice_while_there_are_others() -> None:
    history: list[Seen] = []
    for number in range(9):
        values = suggest([RANK, SEED], history, SETTINGS, number, direction="maximize")
        history.append(Seen(values, float(values["r"])))
    assert len({tuple(trial.values.values()) for trial in history}) == 9


def test_running_and_failed_trials_and_those_of_another_search_are_taken_in() -> None:
    known = [Seen({"lr": "0.01", "r": "16"}, None, is_running=True), Seen({"lr": "0.02", "r": "8"}, None)]
    known.append(Seen({"lr": "5", "r": "64"}, 0.0))
    values = suggest([RATE, RANK], known, SETTINGS, 3, direction="minimize")
    assert values not in [trial.values for trial in known]


@pytest.mark.parametrize(("spaces", "wanted", "found"), [([RANK, SEED], 20, 9), ([RATE, RANK], 20, 20), ([], 5, 1)])
def test_there_are_no_more_trials_than_combinations(spaces: list[Space], wanted: int, found: int) -> None:
    assert count(spaces, wanted) == found
