"""Show forecasts to a person: where the memory goes, hours and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from largeforge.estimate.memory import GIB, PARTS
from largeforge.forecast.plan import SERVER
from largeforge.forecast.text import count, dollars, duration, gib, span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    from largeforge.estimate.targets import Finding
    from largeforge.forecast.stage import Forecast
    from largeforge.forecast.whatif import Case

STYLES = {"fits": "green", "tight": "yellow", "too big": "red", "unknown": "dim"}
WORTH_BYTES = 0.05 * GIB
"""What a part takes at least in some stage to have a column."""
_TITLES = {
    "gradients": "grads", "optimizer": "optim", "activations": "activ", "kv_cache": "KV", "reference": "ref",
    "overhead": "other",
}  # fmt: skip


def render(forecasts: Mapping[str, Forecast]) -> list[RenderableType]:
    """Return what is known of memory, speed, time and cost, with an empty line after each part."""
    parts = [_memory(forecasts), _serving(forecasts), _totals(forecasts), _assumptions(forecasts)]
    return [Group(part, Text()) for part in parts if part is not None]


def training_cases(cases: Sequence[Case]) -> Table:
    """Return a table of hardware against ways to train."""
    titles = list(dict.fromkeys(case.title for case in cases))
    table = _table("hardware", "usable", *titles)
    rows: dict[str, dict[str, Forecast]] = {}
    for case in cases:
        rows.setdefault(case.hardware, {})[case.title] = case.forecast
    for hardware, found in rows.items():
        usable = gib(next(iter(found.values())).usable_bytes)
        table.add_row(hardware, f"{usable} GiB", *(_peak(found[title]) for title in titles))
    return table


def serving_cases(cases: Sequence[Case]) -> Table:
    """Return a table of what a server has room for on some hardware, and how fast it answers."""
    table = _table("hardware", "usable", "vLLM", "side by side", "tok/s in all", "for one")
    for case in cases:
        found, forecast = case.forecast.serving, case.forecast
        numbers = ["", "", ""]
        if found and forecast.verdict != "too big":
            fitting = found.memory.sequences(found.memory.max_model_len)
            numbers[0] = str(min(fitting, found.speed.max_in_flight) if found.speed else fitting)
            if found.speed:
                full = found.speed.requests_per_second(found.load) * found.load.completion_tokens
                numbers[1:] = [span(full), span(found.speed.tokens_per_second_alone())]
        verdict = Text(forecast.verdict, STYLES[forecast.verdict])
        table.add_row(case.hardware, f"{gib(forecast.usable_bytes)} GiB", verdict, *numbers)
    return table


def _peak(forecast: Forecast) -> Text:
    if forecast.memory is None:
        return Text("?")
    return Text.assemble(f"{gib(forecast.memory.total)} GiB ", (forecast.verdict, STYLES[forecast.verdict]))


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for place, title in enumerate(titles):
        table.add_column(title, style="" if place else "bold", no_wrap=True)
    return table


def _memory(forecasts: Mapping[str, Forecast]) -> RenderableType | None:
    """Return a table of where the memory of each stage goes at its peak, with a bar of what is usable."""
    known = {name: found for name, found in forecasts.items() if found.memory is not None}
    if not known:
        return None
    parts_of = [found.memory.parts for found in known.values() if found.memory]
    used = [part for part in PARTS if any(parts.get(part, 0.0) >= WORTH_BYTES for parts in parts_of)]
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column("GiB", style="bold", overflow="fold")
    for part in used:
        table.add_column(_TITLES.get(part, part), justify="right", no_wrap=True)
    table.add_column("peak", justify="right", no_wrap=True, style="bold")
    table.add_column("of usable", min_width=len("23.5 100%"))
    for name, found in known.items():
        assert found.memory is not None
        parts = [gib(found.memory.parts[part]) if part in found.memory.parts else "" for part in used]
        table.add_row(name, *parts, gib(found.memory.total), _answer(found))
    return table


def _serving(forecasts: Mapping[str, Forecast]) -> RenderableType | None:
    """Return a table of what each server has room for and how fast it will be, and whether targets are met."""
    servers = {name: found.serving for name, found in forecasts.items() if found.serving and SERVER in name}
    if not servers:
        return None
    table = _table("serving")
    for title in ("KV tokens", "sequences that fit", "tok/s alone", "at full load"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, found in servers.items():
        length, load = found.memory.max_model_len, found.load
        lengths = sorted({min(load.length, length), length})
        fitting = ", ".join(f"{found.memory.sequences(tokens)} × {tokens}" for tokens in lengths)
        speeds = ["", ""]
        if found.speed:
            alone, full = found.speed.tokens_per_second_alone(), found.speed.requests_per_second(load)
            speeds = [span(alone), span(full * load.completion_tokens)]
        table.add_row(name, f"{found.memory.kv_tokens}", fitting, *speeds)
    lines = [_finding(name, finding) for name, found in servers.items() for finding in found.findings]
    lines += [
        Text(
            f"{name}: {span(busy)} requests in flight at {found.load.requests_per_second:g} a second, of "
            f"{found.speed.max_in_flight} that fit"
        )
        for name, found in servers.items()
        if found.speed and (busy := found.in_flight)
    ]
    return Group(table, *lines)


def _finding(name: str, finding: Finding) -> Text:
    styles = {"met": "green", "likely": "green", "unlikely": "yellow", "missed": "red"}
    sign = "≥" if finding.at_least else "≤"
    found = "cannot carry the load" if finding.found.expected == float("inf") else span(finding.found)
    return Text.assemble(
        f"{name}: {finding.target} {sign} {finding.wanted:g}: ", (finding.answer, styles[finding.answer]), f" ({found})"
    )


def _totals(forecasts: Mapping[str, Forecast]) -> RenderableType | None:
    """Return hours and price of all trainings, with what they rest on."""
    timed = [found for found in forecasts.values() if found.hours and found.training]
    if not timed:
        return None
    hours = [found.hours for found in timed if found.hours]
    whole = sum(hours[1:], hours[0])
    costs = [found.cost for found in timed if found.cost]
    price = f", {dollars(sum(costs[1:], costs[0]))}" if costs else ""
    schedules = [found.training.schedule for found in timed if found.training and found.training.schedule]
    tokens, steps = sum(done.tokens for done in schedules), sum(done.steps for done in schedules)
    flops = sum(found.training.flops for found in timed if found.training)
    bases = dict.fromkeys(found.training.basis for found in timed if found.training)
    return Text.assemble(
        ("training ", "bold"), (duration(whole), "bold"), (price, "bold"),
        f": {count(tokens)} tokens in {steps} step{'s' if steps != 1 else ''}, {flops:.1e} FLOPs; ",
        f"by {' and '.join(bases)}",
    )  # fmt: skip


def _assumptions(forecasts: Mapping[str, Forecast]) -> RenderableType | None:
    """Return what the numbers rest on, each sentence once."""
    found = dict.fromkeys(text for forecast in forecasts.values() for text in forecast.assumptions)
    return Group(*(Text(f"· {text}", "dim") for text in found)) if found else None


def _answer(forecast: Forecast) -> Text:
    """Return the verdict with what share of the usable memory is needed."""
    style = STYLES[forecast.verdict]
    if forecast.verdict == "unknown" or forecast.refusal:
        return Text(forecast.verdict, style)
    return Text.assemble(f"{gib(forecast.usable_bytes)} {forecast.share:.0%} ", (forecast.verdict, style))
