"""Divide the memory of each GPU among its servers, between what each needs and what it wants.

All servers come equally near to what they want, in proportion to what is missing, until a GPU of theirs is full; those
on it stop there and the others go on (max-min fairness by progressive filling: Bertsekas and Gallager, Data Networks,
6.5.2).
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Wish(NamedTuple):
    """What one server needs and wants of each of its GPUs."""

    needed: int
    full: int
    """At least what is needed."""
    units: tuple[int, ...]
    """The GPUs of one host that it is on."""


def divided(wishes: Sequence[Wish], capacity: Mapping[int, int]) -> list[int]:
    """Return what each server is given of each of its GPUs, in whole bytes, never more than a GPU has.

    What all need must fit.
    """
    given: dict[int, int] = {}
    while len(given) < len(wishes):
        waiting = [number for number in range(len(wishes)) if number not in given]
        levels = _levels(wishes, given, capacity)
        level = min([Fraction(1), *levels.values()])
        full = {unit for unit, found in levels.items() if found == level}
        for number in waiting:
            wish = wishes[number]
            if level == 1 or full.intersection(wish.units):
                given[number] = wish.needed + int((wish.full - wish.needed) * level)
    return [given[number] for number in range(len(wishes))]


def _levels(wishes: Sequence[Wish], given: Mapping[int, int], capacity: Mapping[int, int]) -> dict[int, Fraction]:
    """Return for each GPU which share of what is missing its waiting servers could all be given."""
    left, missing = dict(capacity), dict.fromkeys(capacity, 0)
    for number, wish in enumerate(wishes):
        for unit in wish.units:
            left[unit] -= given.get(number, wish.needed)
            if number not in given:
                missing[unit] += wish.full - wish.needed
    return {unit: Fraction(left[unit], missing[unit]) for unit in capacity if missing[unit]}
