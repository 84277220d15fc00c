"""Read the words of `-m`: which keys are swept, what all trials share, and the `sweep` section.

Words about the sweep itself (`sweep=…`, `sweep.jobs=…`) and `mode=` go to no trial. Hydra's own
names for the Optuna sweeper (`hydra/sweeper=optuna`, `hydra.sweeper.n_trials=…`) are understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from largeforge.artifacts import digest
from largeforge.errors import Problem, RecipeError, nearest
from largeforge.recipe import sources
from largeforge.recipe.compose import check_words, compose, rewrite
from largeforge.recipe.places import COMMAND_LINE
from largeforge.recipe.schema import Sweep
from largeforge.recipe.validate import explain
from largeforge.sweep.space import Space, listed_choices, read_space

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from largeforge.recipe.compose import Composition

_HYDRA_NAMES = {
    "hydra/sweeper": "sweep",
    "hydra.sweeper.n_trials": "sweep.n_trials",
    "hydra.sweeper.n_jobs": "sweep.jobs",
    "hydra.sweeper.direction": "sweep.direction",
    "hydra.sweeper.sampler.seed": "sweep.seed",
    "hydra/sweeper/sampler": "sweep.sampler",
}
_HYDRA_VALUES = {"sweep": {"basic": "grid"}}
_NOT_SWEPT = ("sweep", "mode", "runs", "hydra", "serve")
"""First parts of keys that cannot take several values: they say how a sweep runs."""
_RECIPE_MAY_SWEEP = re.compile(
    r"seed|((jobs\.[\w-]+\.)?(method|adapter|evaluation)(\.[\w.]+)?)|model|dataset|(method|adapter|model|dataset)@[\w.-]+"
)
"""Keys of `sweep.params`. A recipe may come from a stranger, and what it sweeps becomes words of the command line,
which are trusted: so no paths, interpreters or addresses, which would be refused in a file of a pack."""
_IDENTITY = ("name", "sampler", "seed")
"""Settings that decide which trials there are; other ones may change when a sweep goes on."""


@dataclass(frozen=True)
class Request:
    """What a sweep was asked for."""

    words: tuple[str, ...]
    """As typed, without `-m`, for the command that continues."""
    fixed: tuple[str, ...]
    """Words that every trial gets."""
    spaces: tuple[Space, ...]
    settings: Sweep
    recipe: str
    runs_root: Path
    is_plan: bool
    """Whether `mode=plan` was given."""

    @property
    def folder(self) -> Path:
        """Folder of the sweep; the same words have the same one, the order of the swept keys included."""
        return self.runs_root / "sweeps" / self.recipe / self.digest[:12]

    @property
    def digest(self) -> str:
        """Digest of what is swept: not of objective, number of trials and jobs, which may change on the way."""
        spaces = [[space.word(",".join(space.values)), space.low, space.high, space.is_log] for space in self.spaces]
        settings = self.settings.model_dump(include=set(_IDENTITY)) if self.settings.name != "grid" else {}
        return digest({"fixed": sorted(self.fixed), "spaces": spaces, "sweep": settings})

    def trial_words(self, values: dict[str, str]) -> tuple[str, ...]:
        """Return the words of the ordinary command that runs one combination of values."""
        return (*self.fixed, *(space.word(values[space.key]) for space in self.spaces))


def read_request(words: Sequence[str]) -> Request:
    """Return what the words of a sweep mean.

    Raises RecipeError for words that are no overrides, for choices that do not exist, and for
    whatever keeps the recipe from being composed with the first value of each key.
    """
    typed = [listed_choices(_translated(word)) for word in words]
    check_words(typed, sweep=True)
    own = [word for word in typed if _is_about_sweep(word)]
    fixed, spaces = _divided(word for word in typed if word not in own)
    fixed = [word for word in fixed if _key(word) != "mode"]
    probe = compose([*own, *fixed, *(space.word(space.probes[0]) for space in spaces)])
    settings = _settings(probe)
    spaces += _of_recipe(settings, probe, {*map(_key, fixed), *(space.key for space in spaces)})
    root = (probe.values.get("runs") or {}).get("root") or "runs"
    return Request(
        words=tuple(typed), fixed=tuple(fixed), spaces=tuple(spaces), settings=settings,
        recipe=_recipe_name(typed, probe), runs_root=Path(str(root)).expanduser().absolute(),
        is_plan=any(_key(word) == "mode" and word.endswith("=plan") for word in typed),
    )  # fmt: skip


def _translated(word: str) -> str:
    key, equals, value = word.partition("=")
    bare = key.lstrip("+")
    if not bare.startswith("hydra"):
        return word
    if bare not in _HYDRA_NAMES:
        rule = "sweeps are run by LargeForge itself: its settings are sweep.*, for example sweep.n_trials=40."
        raise RecipeError([Problem(bare, rule, COMMAND_LINE, value, nearest(bare, _HYDRA_NAMES))])
    name = _HYDRA_NAMES[bare]
    return f"{name}{equals}{_HYDRA_VALUES.get(name, {}).get(value, value)}"


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _is_about_sweep(word: str) -> bool:
    return _key(word).partition(".")[0].partition("@")[0] == "sweep"


def _divided(words: Iterable[str]) -> tuple[list[str], list[Space]]:
    """Return the words with one value, and what the others sweep over."""
    fixed: list[str] = []
    spaces: list[Space] = []
    for word in words:
        space = read_space(word)
        if space is None:
            fixed.append(word)
            continue
        if space.key.replace("/", ".").partition(".")[0] in _NOT_SWEPT:
            raise RecipeError([Problem(space.key, "takes one value in a sweep.", COMMAND_LINE)])
        spaces = [other for other in spaces if other.key != space.key] + [space]
    return fixed, spaces


def _settings(probe: Composition) -> Sweep:
    given: Any = probe.values.get("sweep") or {}
    try:
        return Sweep.model_validate(given)
    except ValidationError as error:
        details = error.errors(include_url=False)
        for detail in details:
            detail["loc"] = ("sweep", *detail["loc"])
        raise RecipeError([explain(detail, probe.values, probe.places) for detail in details]) from None


def _of_recipe(settings: Sweep, probe: Composition, given: set[str]) -> list[Space]:
    """Return what the recipe's own `sweep.params` range over, where the command line does not say otherwise."""
    problems, words = [], []
    for key, value in settings.params.items():
        where = probe.places.of_key("sweep.params")
        if not _RECIPE_MAY_SWEEP.fullmatch(key):
            rule = "a recipe may sweep over method, adapter, evaluation, seed, or choices of model and dataset."
            problems.append(Problem(f"sweep.params.{key}", rule, where))
        elif key not in given:
            words.append(f"{key}={value if isinstance(value, str) else ','.join(map(str, value))}")
    if problems:
        raise RecipeError(problems)
    check_words(words, sweep=True)
    fixed, spaces = _divided(words)
    if fixed:
        rule = "one value is no sweep: write it into the recipe itself."
        raise RecipeError([Problem(f"sweep.params.{_key(word)}", rule) for word in fixed])
    return spaces


def _recipe_name(words: Sequence[str], probe: Composition) -> str:
    """Return a name for the folder: the recipe's own, or the recipes' where several are swept over."""
    typed = next((word.partition("=")[2] for word in rewrite(words) if word.startswith("+recipe=")), "")
    names = [sources.recipe_name(name).replace("/", "-") for name in typed.split(",")]
    return "+".join(names) if len(names) > 1 else str(probe.values.get("name") or "recipe")
