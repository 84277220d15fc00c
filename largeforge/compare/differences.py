"""Where two locks differ, key by key, and what that means for what came of them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from largeforge.compare import causes
from largeforge.compare.results import StagePair, pairs
from largeforge.recipe import data_paths
from largeforge.recorded import focused, rows

if TYPE_CHECKING:
    from largeforge.recorded import Recorded

_REPEATED = re.compile(r"digest$|seed$|datasets\.|recipe\.hardware\.|models\..*\.lock$")
"""Keys that say again what another key says, and data, compared by what it is used for."""

_LONGEST_VALUE = 60
_PARTLY_KNOWN = ("origin.", "resolved.", "models.")
"""Sections that may lack what was not known when the lock was written: that is no difference."""


@dataclass(frozen=True)
class Difference:
    """One key that differs; a side that does not have it has None."""

    key: str
    kind: str
    a: Any
    b: Any
    why: str

    @property
    def shown_key(self) -> str:
        """The key as it is overridden on a command line."""
        return self.key.removeprefix("recipe.")

    def __str__(self) -> str:
        return f"{self.shown_key} {shown(self.a)} → {shown(self.b)}: {self.why}"

    @property
    def decides(self) -> bool:
        """Whether it can change weights or metrics."""
        return self.kind in causes.DECIDING

    @property
    def is_locked(self) -> bool:
        """Whether it is part of what the digest covers, or of what its references meant."""
        return not self.key.startswith("origin.")


@dataclass(frozen=True)
class Comparison:
    """Two sides compared."""

    a: Recorded
    b: Recorded
    differences: list[Difference]
    """The likeliest cause of another result first."""
    stages: list[StagePair]

    @property
    def same_results(self) -> bool:
        """Whether all weights and metrics that both sides have are equal."""
        return all(stage.same for stage in self.stages)

    @property
    def same(self) -> bool:
        """Whether locks and results are equal; where and when the runs were made does not count."""
        return self.same_results and not any(found.is_locked for found in self.differences)

    @property
    def deciding(self) -> list[Difference]:
        """The differences that can change weights or metrics."""
        return [found for found in self.differences if found.decides]

    @property
    def likely(self) -> Difference | None:
        """The difference that explains other results best.

        Where all weights are equal, what only training heeds is no explanation; where some differ,
        how they are judged is none.
        """
        weights = [stage.weights for stage in self.stages if stage.weights is not None]
        innocent = ("model", "method", "seed") if weights and all(weights) else ("evaluation",) if weights else ()
        return next((found for found in self.deciding if found.kind not in innocent), None)

    @property
    def verdict(self) -> str:
        """One sentence: the likely cause of a difference first."""
        if self.same_results:
            return self._without_other_results()
        if self.likely is None:
            return (
                "The results differ, and nothing that is recorded explains it: nondeterminism. On a GPU kernels may "
                "add in another order each time; on a CPU look for data or code that changed outside of the recipe."
            )
        more = len(self.deciding) - 1
        others = f" ({more} more below)" if more else ""
        return f"The results differ; likely cause: {self.likely}{others}."

    def _without_other_results(self) -> str:
        known = "equal weights and metrics" if self.stages else "no results to compare"
        if self.deciding:
            effect = "and yet the results are equal" if self.stages else "which would change the result"
            return f"First difference that can matter: {self.deciding[0]}; {effect}."
        if self.differences:
            return f"Nothing that decides a result differs; {known}."
        return f"The same lock; {known}."


def compare(a: Recorded, b: Recorded) -> Comparison:
    """Compare two locks key by key, and what came of them; of a model only the job that made it counts."""
    a, b = focused(a), focused(b)
    found = [*_data(a, b), *_keys(a, b)]
    found.sort(key=lambda each: causes.rank(each.key, each.kind))
    return Comparison(a, b, found, pairs(a, b))


def _keys(a: Recorded, b: Recorded) -> list[Difference]:
    left, right = flatten(a.lock), flatten(b.lock)
    found = []
    for key in dict.fromkeys([*left, *right]):
        before, after = left.get(key), right.get(key)
        unknown = key.startswith(_PARTLY_KNOWN) and (key not in left or key not in right)
        empty = {} in (before, after) and None in (before, after)  # a section without keys, and none
        if before == after or unknown or empty or _REPEATED.match(key):
            continue
        kind = causes.kind_of(key)
        found.append(Difference(key, kind, before, after, causes.effect(key, kind, before, after)))
    return found


def _data(a: Recorded, b: Recorded) -> list[Difference]:
    """Compare the content of each job's data, whatever the files are called."""
    left, right = data_of(a.lock), data_of(b.lock)
    found = []
    for key in dict.fromkeys([*left, *right]):
        if left.get(key) == right.get(key):
            continue
        job = key.split(".")[1] if key.startswith("jobs.") else ""
        counts = rows(a).get(job), rows(b).get(job)
        before, after = (_content(*each) for each in zip((left.get(key), right.get(key)), counts, strict=True))
        why = f"the rows themselves are others{_more(*counts)}"
        found.append(Difference(key, "data", before, after, why))
    return found


def _content(sha256: str | None, count: int | None) -> str | None:
    return sha256 and f"{sha256[:12]}{'' if count is None else f' ({count} rows)'}"


def _more(before: int | None, after: int | None) -> str:
    """Return how many rows there are more, where both sides have counted them."""
    if before is None or after is None:
        return ""
    if before == after:
        return ", as many as before"
    return f": {abs(after - before)} {'more' if after > before else 'fewer'}"


def data_of(lock: dict[str, Any]) -> dict[str, str]:
    """Return the sha256 of each data file by the recipe's key that names it, such as `jobs.mapper.dataset.path`."""
    recipe, hashes = lock["recipe"], lock["datasets"]
    jobs = {f"jobs.{name}.dataset": job.get("dataset") for name, job in (recipe.get("jobs") or {}).items()}
    sections = {"dataset": recipe.get("dataset"), **jobs}
    return {
        f"{prefix}.{key}": hashes.get(path, "missing")
        for prefix, section in sections.items()
        for key, path in (data_paths.named(section) if section else {}).items()
    }


def shown(value: Any) -> str:
    """Return a value of a recipe on one line, cut where it is long."""
    if value is None:
        return "—"
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested sections as one dict of dotted keys; lists and empty sections are values."""
    if not isinstance(value, dict) or (not value and prefix):
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, item in value.items():
        found.update(flatten(item, f"{prefix}.{key}" if prefix else str(key)))
    return found
