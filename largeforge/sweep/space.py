"""What one key of a sweep ranges over: listed values, a range, or an interval."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from largeforge.errors import Problem, RecipeError, listed
from largeforge.recipe import sources
from largeforge.recipe.compose import rewrite
from largeforge.recipe.places import COMMAND_LINE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_TRIALS = 10_000
"""Most trials of a grid: each is planned before the first one starts, at some 80 ms."""

_CHOOSING = re.compile(r"(?P<key>[\w+/@.]+)=(?P<how>choice|glob)\((?P<inside>[^()\[\]{}]*)\)")
_LOG_SPREAD = 30
"""Largest by smallest of listed values from which on an axis is logarithmic."""


@dataclass(frozen=True)
class Space:
    """A key with the values that it may take, as texts of the command line."""

    key: str
    prefix: str = ""
    """What stands before the key in a word: nothing, `+` or `++`."""
    values: tuple[str, ...] = ()
    """The values of a list or range; empty for an interval."""
    is_ordered: bool = False
    """Whether the values are a range, whose order means something."""
    low: float = 0.0
    high: float = 0.0
    is_integer: bool = False
    """Whether an interval has whole numbers only."""
    is_tagged_log: bool = False

    @property
    def is_interval(self) -> bool:
        """Whether any number between `low` and `high` may be taken."""
        return not self.values

    @property
    def is_log(self) -> bool:
        """Whether an axis of this key is logarithmic: by its tag, or by how far its values lie apart."""
        if self.is_interval or self.is_tagged_log:
            return self.is_tagged_log
        known = [number_of(value) for value in self.values]
        numbers = [number for number in known if number is not None]
        return len(numbers) == len(known) and min(numbers) > 0 and max(numbers) / min(numbers) >= _LOG_SPREAD

    def word(self, value: str) -> str:
        """Return the override that gives the key a value."""
        return f"{self.prefix}{self.key}={value}"

    @property
    def probes(self) -> tuple[str, ...]:
        """Values that are planned before anything is asked of a sampler: all, or both ends of an interval."""
        return self.values or (self.text(self.low), self.text(self.high))

    def text(self, number: float) -> str:
        """Return a number of the interval as it is written in a word: four significant digits, never outside."""
        if self.is_integer:
            return str(int(number))
        rounded = float(f"{number:.4g}")
        return repr(min(max(rounded, self.low), self.high))


def number_of(text: str) -> float | None:
    """Return a value as a finite number, or None for one that is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def grid(spaces: Sequence[Space]) -> Iterator[dict[str, str]]:
    """Return every combination of values, the last key varying fastest.

    Raises RecipeError for intervals and for more than MAX_TRIALS combinations.
    """
    for space in spaces:
        if space.is_interval:
            rule = "an interval has no end of values: choose some with sweep=optuna or sweep=random, or list them."
            raise RecipeError([Problem(space.key, rule, COMMAND_LINE)])
    count = math.prod(len(space.values) for space in spaces)
    if count > MAX_TRIALS:
        rule = f"{count:,} combinations; at most {MAX_TRIALS:,} are planned. Choose some of them with sweep=optuna."
        raise RecipeError([Problem("-m", rule, COMMAND_LINE)])
    keys = [space.key for space in spaces]
    return (dict(zip(keys, values, strict=True)) for values in itertools.product(*(space.values for space in spaces)))


def read_space(word: str) -> Space | None:
    """Return what a word sweeps over, or None for a word with one value.

    Raises RecipeError for an interval without numbers in it.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import IntervalSweep, RangeSweep

    override = OverridesParser.create().parse_override(rewrite([word])[0])
    if not override.is_sweep_override():
        return None
    prefix, key = _split(word)
    swept: Any = override._value
    is_log = "log" in getattr(swept, "tags", ())
    if isinstance(swept, IntervalSweep):
        return _interval(key, prefix, swept.start, swept.end, is_log=is_log)
    values = tuple(dict.fromkeys(override.sweep_string_iterator()))
    is_ordered = isinstance(swept, RangeSweep) and not swept.shuffle
    return Space(key, prefix, values, is_ordered=is_ordered, is_tagged_log=is_log)


def _interval(key: str, prefix: str, low: float, high: float, *, is_log: bool) -> Space:
    given = f"interval({low:g}, {high:g})"
    if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
        raise RecipeError([Problem(key, "an interval goes from a lower to a higher number.", COMMAND_LINE, given)])
    if is_log and low <= 0:
        raise RecipeError([Problem(key, "a logarithmic interval begins above 0.", COMMAND_LINE, given)])
    is_integer = isinstance(low, int) and isinstance(high, int)
    return Space(key, prefix, low=low, high=high, is_integer=is_integer, is_tagged_log=is_log)


def _split(word: str) -> tuple[str, str]:
    key = word.partition("=")[0]
    bare = key.lstrip("+")
    return key[: len(key) - len(bare)], bare


def listed_choices(word: str) -> str:
    """Return `group=a,b` for `group=choice(a,b)` and `group=glob(*)`, and any other word as it is.

    Raises RecipeError for a pattern that no choice of the group matches.
    """
    match = _CHOOSING.fullmatch(word)
    if match is None:
        return word
    if match["how"] == "choice":
        return f"{match['key']}={match['inside']}"
    group = match["key"].lstrip("+").partition("@")[0]
    pattern = match["inside"].strip("'\"")
    names = [name for name in sources.choices(group) if fnmatchcase(name, pattern)]
    if not names:
        rule = f"no choice of this group matches; there is: {listed(sources.choices(group))}."
        raise RecipeError([Problem(group, rule, COMMAND_LINE, repr(pattern))])
    return f"{match['key']}={','.join(names)}"
