"""Say in a sentence why a server does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeforge.errors import listed
from largeforge.estimate.memory import GIB
from largeforge.placing.capacity import CONTEXT, allowed_values, serves

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.placing.board import Item
    from largeforge.placing.model import Demand
    from largeforge.placing.solving import Solved
    from largeforge.placing.states import State


def reasons(found: Solved) -> tuple[str, ...]:
    """Return one sentence for each server that does not fit."""
    failed: dict[int, list[Item]] = {}
    for item in found.failed:
        failed.setdefault(item.server, []).append(item)
    return tuple(f"{_title(items)} {_why(items, found)}." for _, items in sorted(failed.items()))


def gib(number: float) -> str:
    """Return bytes as people read them."""
    return f"{number / GIB:.1f} GiB"


def rule_text(name: str, values: object, *, is_not: bool = False) -> str:
    """Return a rule for a label as text: `zone = eu or us`."""
    return f"{name} {'is not' if is_not else '='} {' or '.join(allowed_values(values))}"


def _title(items: Sequence[Item]) -> str:
    demand = items[0].demand
    if demand.replicas == 1:
        return f"{demand.name} does not fit:"
    numbers = f"{len(items)} of its {demand.replicas} replicas {'does' if len(items) == 1 else 'do'} not fit:"
    return f"{demand.name}: {numbers}"


def _why(items: Sequence[Item], found: Solved) -> str:
    item = items[0]
    able = [state for state in found.board.idle if item.need.may_be_on(state.kind)]
    if not able:
        return _no_host(item.demand, found)
    if item.need.on_cpu:
        return _why_not_on_cpu(item, able, found)
    if not any(state.slots for state in able):
        return f"it needs a GPU, and {_of(item.demand, 'no host')} has one"
    if not any(state.best(item.need, tight=True) for state in able):
        return _too_big(item, able)
    if found.misfits:
        return _apart(item, able)
    return _no_room(item, found)


def _no_host(demand: Demand, found: Solved) -> str:
    serving = [host for host in found.board.hosts if serves(host)]
    if not serving:
        return "no host takes servers (roles: [serve])"
    rules = [rule_text(name, values) for name, values in sorted(demand.labels.items())]
    rules += [rule_text(name, values, is_not=True) for name, values in sorted(demand.avoid.items())]
    names = sorted({*demand.labels, *demand.avoid})
    there = sorted({f"{name} = {host.labels[name]}" for host in serving for name in names if name in host.labels})
    return f"no host has {' and '.join(rules)}; there is: {listed(there, 6)}"


def _of(demand: Demand, text: str) -> str:
    """Return the text with the labels that a host must have, where there are any."""
    rules = [rule_text(name, values) for name, values in sorted(demand.labels.items())]
    rules += [rule_text(name, values, is_not=True) for name, values in sorted(demand.avoid.items())]
    return f"{text} where {' and '.join(rules)}" if rules else text


def _too_big(item: Item, able: Sequence[State]) -> str:
    """Say why a server fits nowhere, even alone."""
    need, demand = item.need, item.demand
    largest = max(max(state.kind.usable, default=0) for state in able)
    takes = f"{gib(need.cost)}{_context()}"
    if largest < need.cost:
        free = _of(demand, "the largest GPU")
        return f"it needs {takes} of {'a GPU' if need.size == 1 else 'each GPU'}, and {free} has {gib(largest)}"
    return (
        f"it needs {need.size} equal GPUs of one host with {takes} on each, and {_of(demand, 'no host')} has "
        f"more than {max(_most_equal(state, need.cost) for state in able)}"
    )


def _context() -> str:
    return f" ({gib(CONTEXT)} of it for the CUDA context)"


def _most_equal(state: State, cost: int) -> int:
    """Return how many GPUs of one make have so much left."""
    kind = state.kind
    fitting = [kind.makes[p] for p, slot in enumerate(state.slots) if kind.usable[p] - slot.used >= cost]
    return max((fitting.count(make) for make in set(fitting)), default=0)


def _apart(item: Item, able: Sequence[State]) -> str:
    count = sum(bool(state.best(item.need, tight=True)) for state in able)
    return (
        f"{item.demand.replicas} replicas must be on different hosts (spread), and {count} "
        f"{'host' if count == 1 else 'hosts'} can have one"
    )


def _no_room(item: Item, found: Solved) -> str:
    """Say what is left beside the other servers."""
    need, counts = item.need, found.board.counts[item.server]
    able = [
        state
        for host, state in enumerate(found.board.states)
        if need.may_be_on(state.kind) and not (item.is_apart and host in counts)
    ]
    if not able:
        return f"its replicas must be on different hosts (spread), and each of {len(counts)} has one"
    left = [state.kind.usable[p] - slot.used for state in able for p, slot in enumerate(state.slots)]
    free = [
        state.kind.usable[p] - slot.used
        for state in able
        for p, slot in enumerate(state.slots)
        if not slot.is_exclusive and not (need.is_exclusive and slot.servers)
    ]
    takes = f"it needs {gib(need.cost)} on {_gpus(need.size)}"
    if not free:
        alone = "for itself" if need.is_exclusive else "that is not another's alone"
        return f"{takes} {alone}, and beside the other servers no GPU is left"
    if sum(left) < need.cost * need.size:
        return f"{takes}, and beside the other servers {gib(sum(left))} are left on {len(left)} GPUs in all"
    if max(free) < need.cost:
        return (
            f"{takes}, and the memory is fragmented: {gib(sum(left))} are left beside the other servers, "
            f"but at most {gib(max(free))} on one GPU"
        )
    most = max(_most_equal(state, need.cost) for state in able)
    return f"{takes}, and beside the other servers no host has more than {most} equal GPUs with that much left"


def _gpus(size: int) -> str:
    return "a GPU" if size == 1 else f"each of {size} equal GPUs of one host"


def _why_not_on_cpu(item: Item, able: Sequence[State], found: Solved) -> str:
    need, demand = item.need, item.demand
    alone = [state for state in able if state.best(need, tight=True)]
    takes = f"it needs {gib(need.cost)} of a host's memory and a core"
    if not alone:
        largest = max(state.kind.host.memory_bytes for state in able)
        cores = max(state.kind.host.cores for state in able)
        return f"{takes}, and {_of(demand, 'the largest host')} has {gib(largest)} and {cores} cores for servers"
    if found.misfits:
        return _apart(item, able)
    states = [state for state in found.board.states if need.may_be_on(state.kind)]
    left = [state.kind.host.memory_bytes - state.memory.used for state in states]
    cores = sum(max(0, state.kind.host.cores - state.memory.servers) for state in states)
    return (
        f"{takes}, and beside the other servers {gib(sum(left))} and {cores} cores are left, "
        f"at most {gib(max(left))} on one host"
    )
