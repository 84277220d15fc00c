"""A deployment's preview for the terminal: where servers are put, and what would change, host by host."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from largeforge.deploy import desired, steps
from largeforge.deploy.rollouts import telling
from largeforge.errors import listed

if TYPE_CHECKING:
    from rich.console import RenderableType

    from largeforge.deploy.controller import Preview
    from largeforge.deploy.update import Replacement
    from largeforge.placing import Row

GIB = 2**30
MOST_DIFF_LINES = 16
_MODES = {
    "blue_green": "started beside the one before, then the gateways change over",
    "canary": "started beside the one before as its canary, which gets more and more of the traffic",
    "fixed": "the one before is stopped first",
    "handover": "takes over the socket of the one before",
}


def render(preview: Preview, rows: Sequence[Row]) -> Iterator[RenderableType]:
    """Yield what to print."""
    yield Text("\nPlacement", "bold")
    yield _placement(rows)
    if preview.rollout is not None:
        yield Text("\nRollout", "bold")
        yield from telling.planned(preview.rollout)
    for host in (*preview.looks, *preview.failed):
        yield Text()
        yield from _host(preview, host)


def _placement(rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("host", "on", "servers", "given"):
        table.add_column(column, overflow="fold")
    for row in rows:
        servers = ", ".join(f"{name} ({size / GIB:.1f} GiB)" for name, size in row.servers) or "-"
        kind = f"{row.unit} {row.kind}".strip()
        table.add_row(row.host, kind, servers, f"{row.given_bytes / GIB:.1f} of {row.usable_bytes / GIB:.1f} GiB")
    return table


def _host(preview: Preview, host: str) -> Iterator[RenderableType]:
    if host in preview.failed:
        yield Text.assemble((f"✗ {host}", "bold red"), f"  {preview.failed[host]}")
        return
    changes = preview.changes.get(host, ())
    replaced = [one for one in preview.replacements if one.new.host == host]
    removed = [one for one in preview.removed if one.host == host]
    if not changes and not replaced and not removed:
        yield Text.assemble((f"✓ {host}", "green"), "  nothing to change")
        return
    yield Text.assemble((host, "bold"), f"  {len(changes)} changes, {len(replaced)} servers started or replaced")
    state = preview.looks[host]["state"]
    known = {step.title: step for step in _steps(preview, host, state)}
    for change in changes:
        sign = "+" if change.reason == "new" else "~"
        yield Text(f"  {sign} {change.title}{'' if change.reason == 'new' else f'  ({change.reason})'}")
        step = known.get(change.title)
        if isinstance(step, steps.File) and change.reason == "content differs":
            yield from _diff(state["paths"][step.path].get("text"), step.text)
    for one in replaced:
        yield Text(f"  {_replaced(one, state)}", "cyan")
    for release in removed:
        yield Text(f"  - {release.service}: release {release.key} is stopped", "cyan")


def _steps(preview: Preview, host: str, state: Mapping[str, Any]) -> list[steps.Step]:
    return desired.prepared(preview.wanted, host, desired.ports(preview.wanted, host, state))


def _replaced(one: Replacement, state: Mapping[str, Any]) -> str:
    name, new, old = one.new.service, one.new.key, one.old
    after = f", after {listed(gone.service for gone in one.vacates)} has stopped to make room" if one.vacates else ""
    if old is None:
        return f"+ {name}: release {new} is started on port {one.new.port}{after}"
    if old.key == new:
        unit = state["units"].get(old.unit, {})
        found = unit.get("ActiveState", "not there")
        return f"~ {name}: " + ("restarted, its files were changed" if found == "active" else f"started, it is {found}")
    return f"~ {name}: release {old.key} → {new}, {_MODES[one.mode]}{after}"


def _diff(before: str | None, after: str) -> Iterator[Text]:
    if before is None:
        return
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1))[2:]
    for line in lines[:MOST_DIFF_LINES]:
        yield Text(f"      {line}", "green" if line.startswith("+") else "red" if line.startswith("-") else "dim")
    if len(lines) > MOST_DIFF_LINES:
        yield Text(f"      … {len(lines) - MOST_DIFF_LINES} more lines", "dim")
