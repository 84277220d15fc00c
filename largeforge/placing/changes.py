"""Find the nearest changes with which everything fits, by trying them: what costs the user least comes first."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from largeforge.placing.model import Change, Gpu
from largeforge.placing.reasons import gib, rule_text
from largeforge.placing.solving import QUICK, solved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from largeforge.placing.model import Demand, HostCapacity, Seat
    from largeforge.placing.solving import Solved
    from largeforge.placing.states import States

    Alternatives = Callable[[Demand], Iterable[tuple[str, Demand]]]
    _Sort = Callable[[Demand], Iterator["_Form"]]

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

    def __init__(self, demands: Sequence[Demand], hosts: Sequence[HostCapacity], keep: Sequence[Seat], states: States):
        self.states = states
        self.demands, self.hosts, self.keep = demands, hosts, keep

    def failing(self, changed: Sequence[Demand]) -> set[str]:
        """Return which servers do not fit with some demands in another form."""
        forms = {demand.name: demand for demand in changed}
        demands = [forms.get(demand.name, demand) for demand in self.demands]
        return {
            item.demand.name for item in solved(demands, self.hosts, self.keep, work=QUICK, states=self.states).failed
        }

    def num_failing(self, *, hosts: Sequence[HostCapacity]) -> int:
        """Return how many replicas do not fit on other hosts."""
        by_name = sorted(hosts, key=lambda host: host.name)
        return len(solved(self.demands, by_name, self.keep, work=QUICK, states=self.states).failed)


def changes(
    found: Solved,
    demands: Sequence[Demand],
    hosts: Sequence[HostCapacity],
    keep: Sequence[Seat],
    alternatives: Alternatives | None,
) -> tuple[Change, ...]:
    """Return up to three changes of different sorts, each of which was tried and makes everything fit."""
    trial = _Trial(demands, hosts, keep, found.board.space)
    names = {item.demand.name for item in found.failed}
    failed = [demand for demand in demands if demand.name in names]
    sorts: list[_Sort] = [_spread, _shared, _labels, _replicas]
    if alternatives:
        sorts.insert(0, partial(_others, alternatives))
    by_form = [_by_forms(trial, failed, sort, limit=2 if sort is not _replicas else 1) for sort in sorts]
    if alternatives:
        by_form.append(_by_neighbours(trial, names, partial(_others, alternatives)))
    by_inventory = (_by_gpus(trial, failed), _by_hosts(trial, len(found.failed)))
    nearest = tuple(islice(chain(*by_form, *by_inventory), MAX_CHANGES))
    several = (lambda demand: _any(demand, sorts), _nothing)
    return nearest or tuple(islice(chain(*(_together(trial, failed, sort) for sort in several)), 1))


def _by_forms(trial: _Trial, failed: Sequence[Demand], sort: _Sort, *, limit: int) -> Iterator[Change]:
    """Yield changes of one sort: forms of the one server that fails, or a form of each where several do."""
    if len(failed) > 1:
        yield from _together(trial, failed, sort)
        return
    feasible = (form for form in islice(sort(failed[0]), MAX_FORMS) if not trial.failing([form.demand]))
    yield from (Change(form.text, form.override) for form in islice(feasible, limit))


def _by_neighbours(trial: _Trial, failed: set[str], sort: _Sort) -> Iterator[Change]:
    """Yield the first form of a server that does fit with which those that fail fit, too; large ones first."""
    others = [demand for demand in trial.demands if demand.name not in failed]
    others.sort(key=lambda demand: (-demand.needed_bytes * demand.tensor_parallel_size, demand.name))
    for form in islice(chain.from_iterable(map(sort, others)), MAX_FORMS):
        if not trial.failing([form.demand]):
            yield Change(form.text, form.override)
            return


def _together(trial: _Trial, failed: Sequence[Demand], sort: _Sort) -> Iterator[Change]:
    """Yield one change of several servers: each in turn takes the first form in which it no longer fails."""
    chosen: dict[str, _Form] = {}
    by_name = {demand.name: demand for demand in trial.demands}
    left = {demand.name for demand in failed}
    while left:
        name = min(left)
        for form in islice(sort(by_name[name]), MAX_FORMS) if name not in chosen else ():
            after = trial.failing([*(other.demand for other in chosen.values()), form.demand])
            if name not in after:
                chosen[name], left = form, after
                break
        else:
            return
    needed = _needed(trial, list(chosen.values()))
    yield Change("; ".join(form.text for form in needed), " ".join(form.override for form in needed if form.override))


def _needed(trial: _Trial, forms: Sequence[_Form]) -> list[_Form]:
    """Return the forms without those that were not needed after all."""
    needed = list(forms)
    for form in forms[:-1]:
        rest = [other for other in needed if other is not form]
        if not trial.failing([other.demand for other in rest]):
            needed = rest
    return needed


def _any(demand: Demand, sorts: Sequence[_Sort]) -> Iterator[_Form]:
    """Yield the first forms of each sort, at last the one in which the server is not there."""
    for sort in sorts:
        yield from islice(sort(demand), 1)
    yield from _nothing(demand)


def _nothing(demand: Demand) -> Iterator[_Form]:
    yield _Form(f"leave out {demand.name}", "", replace(demand, replicas=0))


def _others(alternatives: Alternatives, demand: Demand) -> Iterator[_Form]:
    for override, other in alternatives(demand):
        yield _Form(f"{demand.name} with another option", override, other)


def _spread(demand: Demand) -> Iterator[_Form]:
    if demand.spread == "hosts!":
        text = f"let replicas of {demand.name} share a host where they have to (spread: hosts)"
        yield _Form(text, "", replace(demand, spread="hosts"))


def _shared(demand: Demand) -> Iterator[_Form]:
    if demand.exclusive:
        yield _Form(
            f"let {demand.name} share its GPUs with others (exclusive: false)", "", replace(demand, exclusive=False)
        )


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
        yield _Form(
            f"{demand.name} with {count} {word} instead of {demand.replicas}", "", replace(demand, replicas=count)
        )


def _by_gpus(trial: _Trial, failed: Sequence[Demand]) -> Iterator[Change]:
    """Yield the first host on which one more GPU like those that it has, with nothing else on it, is enough."""
    if all(demand.device == "cpu" for demand in failed):
        return
    for host in _kinds(trial.hosts):
        for make in sorted({(gpu.memory_bytes, gpu.name) for gpu in host.gpus}):
            index = max(gpu.index for gpu in host.gpus) + 1
            more = replace(host, gpus=(*host.gpus, Gpu(index, make[1], make[0], make[0])))
            if not trial.num_failing(hosts=[more if other is host else other for other in trial.hosts]):
                yield Change(f"one more {make[1]} with {gib(make[0])} in {host.name}")
                return


def _by_hosts(trial: _Trial, most: int) -> Iterator[Change]:
    """Yield how many more hosts like one that is there are enough, for the kind of which that is the fewest.

    A host that is worth having takes at least one of the `most` replicas that found no place.
    """
    best, chosen = min(most, MAX_MORE) + 1, ""
    for host in _kinds(trial.hosts):
        enough = _fewest(trial, host, best - 1, most)
        if enough:
            best, chosen = enough, host.name
    if chosen:
        yield Change(f"{'one more host' if best == 1 else f'{best} more hosts'} like {chosen}")


def _fewest(trial: _Trial, host: HostCapacity, limit: int, most: int) -> int:
    """Return how many more hosts like this are enough, 0 when `limit` are not, or when the first one is of no use."""
    gpus = tuple(replace(gpu, free_bytes=gpu.memory_bytes) for gpu in host.gpus)

    def failing(count: int) -> int:
        more = [replace(host, name=f"{host.name}+{number}", gpus=gpus) for number in range(count)]
        return trial.num_failing(hosts=[*trial.hosts, *more])

    if limit < 1 or failing(1) >= most:
        return 0
    high = 1
    while failing(high):
        if high == limit:
            return 0
        high = min(2 * high, limit)
    low = high // 2 if high > 1 else 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if failing(middle) else (low, middle)
    return high


def _kinds(hosts: Sequence[HostCapacity]) -> list[HostCapacity]:
    """Return one host of each kind, by what it has, the first of each by name."""
    seen: dict[object, HostCapacity] = {}
    for host in hosts:
        makes = tuple(sorted((gpu.memory_bytes, gpu.name) for gpu in host.gpus))
        seen.setdefault((makes, host.memory_bytes, tuple(sorted(host.labels.items())), host.roles), host)
    return sorted(seen.values(), key=lambda host: (sum(gpu.memory_bytes for gpu in host.gpus), host.name))[:MAX_KINDS]
