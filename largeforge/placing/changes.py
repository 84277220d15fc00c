"""Find the nearest changes with which everything fits, by trying them: what costs the user least comes first."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from largeforge.placing.model import Change, Gpu
from largeforge.placing.reasons import gib, rule_text
from largeforge.placing.solving import QUICK, solved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from largeforge.placing.model import Demand, HostCapacity, Seat
    from largeforge.placing.solving import Solved

    Alternatives = Callable[[Demand], Iterable[tuple[str, Demand]]]

MAX_CHANGES = 3
MAX_FORMS = 8
"""Forms of one server, of one sort of change, that are tried."""
MAX_MORE = 64
"""Hosts of one kind that are added at most."""
MAX_KINDS = 4
"""Kinds of hosts of which more are tried."""


class _Form(NamedTuple):
    """One server in another form."""

    text: str
    override: str
    demand: Demand


class _Trial:
    """The input that was refused, to be tried again with one thing changed."""

    def __init__(self, demands: Sequence[Demand], hosts: Sequence[HostCapacity], keep: Sequence[Seat]):
        self.demands, self.hosts, self.keep = demands, hosts, keep

    def failing(self, changed: Sequence[Demand] = (), hosts: Sequence[HostCapacity] | None = None) -> set[str]:
        """Return which servers do not fit with some demands in another form, or with other hosts."""
        forms = {demand.name: demand for demand in changed}
        demands = [forms.get(demand.name, demand) for demand in self.demands]
        found = solved(demands, self.hosts if hosts is None else hosts, self.keep, work=QUICK)
        return {item.demand.name for item in found.failed}


def changes(
    found: Solved,
    demands: Sequence[Demand],
    hosts: Sequence[HostCapacity],
    keep: Sequence[Seat],
    alternatives: Alternatives | None,
) -> tuple[Change, ...]:
    """Return up to three changes of different sorts, each of which was tried and makes everything fit."""
    trial = _Trial(demands, hosts, keep)
    names = {item.demand.name for item in found.failed}
    failed = [demand for demand in demands if demand.name in names]
    sorts: list[Callable[[Demand], Iterator[_Form]]] = [_spread, _shared, _labels, _replicas]
    by_form = [_by_forms(trial, failed, sort) for sort in sorts]
    if alternatives:
        by_form.insert(0, _by_forms(trial, failed, lambda demand: _others(demand, alternatives), limit=2))
    return tuple(islice(chain(*by_form, _by_gpus(trial, failed), _by_hosts(trial, failed)), MAX_CHANGES))


def _by_forms(
    trial: _Trial, failed: Sequence[Demand], sort: Callable[[Demand], Iterator[_Form]], *, limit: int = 1
) -> Iterator[Change]:
    """Yield changes of one sort: of one server where that is enough, else of as many of those that fail as needed."""
    count = 0
    for demand in failed if len(failed) == 1 else ():
        for form in islice(sort(demand), MAX_FORMS):
            if not trial.failing([form.demand]):
                yield Change(form.text, form.override)
                count += 1
                if count == limit:
                    return
    if len(failed) > 1:
        yield from _together(trial, failed, sort)


def _together(trial: _Trial, failed: Sequence[Demand], sort: Callable[[Demand], Iterator[_Form]]) -> Iterator[Change]:
    """Yield one change of several servers: each in turn takes the first form in which it no longer fails."""
    chosen: list[_Form] = []
    left = {demand.name for demand in failed}
    for demand in failed:
        for form in islice(sort(demand), MAX_FORMS):
            after = trial.failing([*(other.demand for other in chosen), form.demand])
            if not after:
                needed = _needed(trial, [*chosen, form])
                yield Change("; ".join(f.text for f in needed), " ".join(f.override for f in needed if f.override))
                return
            if len(after) < len(left) and demand.name not in after:
                chosen, left = [*chosen, form], after
                break


def _needed(trial: _Trial, forms: Sequence[_Form]) -> list[_Form]:
    """Return the forms without those that were not needed after all."""
    needed = list(forms)
    for form in forms[:-1]:
        rest = [other for other in needed if other is not form]
        if not trial.failing([other.demand for other in rest]):
            needed = rest
    return needed


def _others(demand: Demand, alternatives: Alternatives) -> Iterator[_Form]:
    for override, other in alternatives(demand):
        yield _Form(f"{demand.name} with another option", override, other)


def _spread(demand: Demand) -> Iterator[_Form]:
    if demand.spread == "hosts!":
        text = f"let replicas of {demand.name} share a host where they have to (spread: hosts)"
        yield _Form(text, "", replace(demand, spread="hosts"))


def _shared(demand: Demand) -> Iterator[_Form]:
    if demand.exclusive:
        yield _Form(f"let {demand.name} share its GPUs with others (exclusive: false)", "", replace(demand, exclusive=False))


def _labels(demand: Demand) -> Iterator[_Form]:
    for name, values in sorted(demand.labels.items()):
        rest = {other: value for other, value in demand.labels.items() if other != name}
        yield _Form(f"{demand.name} without the label {rule_text(name, values)}", "", replace(demand, labels=rest))
    for name, values in sorted(demand.avoid.items()):
        rest = {other: value for other, value in demand.avoid.items() if other != name}
        text = f"{demand.name} also where {rule_text(name, values)}"
        yield _Form(text, "", replace(demand, avoid=rest))


def _replicas(demand: Demand) -> Iterator[_Form]:
    for count in range(demand.replicas - 1, 0, -1):
        word = "replica" if count == 1 else "replicas"
        yield _Form(f"{demand.name} with {count} {word} instead of {demand.replicas}", "", replace(demand, replicas=count))


def _by_gpus(trial: _Trial, failed: Sequence[Demand]) -> Iterator[Change]:
    """Yield the first host on which one more GPU like those that it has, with nothing else on it, is enough."""
    if all(demand.device == "cpu" for demand in failed):
        return
    for host in _kinds(trial.hosts):
        for make in sorted({(gpu.memory_bytes, gpu.name) for gpu in host.gpus}):
            index = max(gpu.index for gpu in host.gpus) + 1
            more = replace(host, gpus=(*host.gpus, Gpu(index, make[1], make[0], make[0])))
            if not trial.failing(hosts=[more if other is host else other for other in trial.hosts]):
                yield Change(f"one more {make[1]} with {gib(make[0])} in {host.name}")
                return


def _by_hosts(trial: _Trial, failed: Sequence[Demand]) -> Iterator[Change]:
    """Yield how many more hosts like one that is there are enough, for the kind of which that is the fewest."""
    best = MAX_MORE + 1
    chosen = ""
    for host in _kinds(trial.hosts):
        enough = _fewest(trial, host, best - 1)
        if enough:
            best, chosen = enough, host.name
        if best == 1:
            break
    if chosen:
        yield Change(f"{'one more host' if best == 1 else f'{best} more hosts'} like {chosen}")
    del failed


def _fewest(trial: _Trial, host: HostCapacity, limit: int) -> int:
    """Return how many more hosts like this are enough, 0 when `limit` are not."""
    gpus = tuple(replace(gpu, free_bytes=gpu.memory_bytes) for gpu in host.gpus)

    def is_enough(count: int) -> bool:
        more = [replace(host, name=f"{host.name}+{number}", gpus=gpus) for number in range(count)]
        return not trial.failing(hosts=[*trial.hosts, *more])

    high = 1
    while high < limit and not is_enough(high):
        high *= 2
    high = min(high, limit)
    if high < 1 or not is_enough(high):
        return 0
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _kinds(hosts: Sequence[HostCapacity]) -> list[HostCapacity]:
    """Return one host of each kind, by what it has, the first of each by name."""
    seen: dict[object, HostCapacity] = {}
    for host in hosts:
        makes = tuple(sorted((gpu.memory_bytes, gpu.name) for gpu in host.gpus))
        seen.setdefault((makes, host.memory_bytes, tuple(sorted(host.labels.items())), host.roles), host)
    return sorted(seen.values(), key=lambda host: (sum(gpu.memory_bytes for gpu in host.gpus), host.name))[:MAX_KINDS]
