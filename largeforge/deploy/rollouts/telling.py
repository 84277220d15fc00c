"""Rollouts for the terminal: where each is, what was decided, and why."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Group as Stack
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from largeforge.deploy.rollouts.document import Document, Group
    from largeforge.recipe.sections.rollouts import Rollout

SHOWN = 12
"""Newest decisions that are shown."""
_STYLES = {"promoted": "green", "rolled_back": "bold red", "paused": "yellow", "finished": "yellow"}
_METRIC = {"worse": "red", "fine": "green", "not_enough": "dim"}


def shown(name: str, known: Sequence[Document]) -> RenderableType:
    """Return what to print of a deployment's rollouts: the newest whole, those before in a line."""
    if not known:
        return Text(f"{name}: there was no rollout; a recipe begins one with rollout=canary")
    lines = [Text(f"{one.id}  {_ending(one)}  by {one.by}", "dim") for one in reversed(known[:-1])]
    return Stack(*_whole(known[-1]), *lines)


def planned(document: Document) -> Iterator[RenderableType]:
    """Yield what to print of a rollout that would begin or go on: how long it takes, and what it must keep."""
    if document.groups[0].state is not None:
        yield Text(f"{document.id} is under way, and would be gone on with", "yellow")
    for group in document.groups:
        yield Text.assemble((group.server, "bold"), f"  {_course(group.settings)}")
        yield Text(f"  sent back for {_limits(group.settings)}", "dim")
        for expert in group.judged:
            yield Text(f"  {expert}: {group.changes[expert].old} → {group.changes[expert].new}")


def _course(settings: Rollout) -> str:
    """Say in which steps a rollout goes, and how long these take."""
    shares = " → ".join(f"{share:.4g}" for share in settings.shares)
    lasts = f"{settings.bake_s:g} s and {settings.min_requests} requests each at least"
    return {
        "canary": f"canary {shares}: {lasts}, then watched for {settings.watch_s:g} s",
        "shadow": f"shadow of {settings.shadow_share:.4g} of the requests: {lasts}",
        "ab": f"A/B with {settings.ab_share:.4g} of the traffic for {settings.ab_s:g} s",
        "blue_green": f"blue-green: all of the traffic, watched for {settings.watch_s:g} s",
    }[settings.strategy]


def _limits(settings: Rollout) -> str:
    """Say what sends a model back beside the comparison."""
    limits = settings.analysis.triggers
    found = [f"more than {limits.error_share:.4g} errors"] if limits.error_share else []
    for what, most_ms, share in (
        ("requests", limits.latency_ms, limits.latency_share), ("first tokens", limits.ttft_ms, limits.ttft_share),
    ):  # fmt: skip
        if most_ms:
            found.append(f"more than {share:.4g} of {what} above {most_ms:g} ms")
    listed = ", ".join([*found, "anything surely worse than now"])
    return f"{listed} (alpha {settings.analysis.alpha:g})"


def _whole(document: Document) -> Iterator[RenderableType]:
    yield Text.assemble((document.id, "bold"), f"  {document.target.recipe}  by {document.by}  ", _styled(document))
    for reason in document.reasons:
        yield Text(f"  {reason}")
    for group in document.groups:
        yield from _of(group)


def _of(group: Group) -> Iterator[RenderableType]:
    shares = "  ".join(f"[{share:.4g}]" if share == group.share else f"{share:.4g}" for share in group.settings.shares)
    copies = f", copies of {group.shadow:.4g}" if group.shadow else ""
    phase = group.phase.replace("_", " ")
    where = f"{group.settings.strategy} {shares}{copies}"
    yield Text.assemble("\n", (group.server, "bold"), f"  {where}  ", (phase, _STYLES.get(group.phase, "cyan")))
    for expert in group.judged:
        change = group.changes[expert]
        yield Text(f"  {expert}: {change.old} → {change.new}")
    if group.state is None:
        return
    whole = group.state.watch.whole
    counted = [("canary", whole.canary), ("stable", whole.stable)]
    yield Text(
        "  " + ", ".join(f"{arm.requests} requests of {side}, {arm.errors} failed" for side, arm in counted), "dim"
    )
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("when (UTC)", "decided", "share", "why"):
        table.add_column(column, overflow="fold")
    for entry in group.state.log[-SHOWN:]:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(entry.time))
        why = Text("\n".join(entry.reasons))
        for metric, outcome in entry.verdicts.items():
            why.append(f"{chr(10) if metric == next(iter(entry.verdicts)) else '  '}{metric}", _METRIC.get(outcome, ""))
        table.add_row(when, entry.action.replace("_", " "), f"{entry.share:.4g}", why)
    yield table


def _ending(document: Document) -> str:
    return document.ended.replace("_", " ") or "under way"


def _styled(document: Document) -> tuple[str, str]:
    return _ending(document), _STYLES.get(document.ended, "cyan")
