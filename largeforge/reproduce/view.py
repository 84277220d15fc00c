"""What a reproduction can match, and what came of it, for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.compare.results import StagePair
    from largeforge.reproduce.matches import Match

_STYLES = {"exact": "green", "differs": "yellow", "unknown": "dim"}


def table(matches: Sequence[Match]) -> Table:
    """Return each thing of the lock beside what there is here."""
    found = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("", "locked", "here", "", ""):
        found.add_column(column, overflow="fold")
    for match in matches:
        style = "red" if match.blocks else _STYLES[match.verdict]
        cells = [Text(match.what), Text(match.locked), Text(match.here), Text(match.verdict, style=style)]
        found.add_row(*cells, Text(match.note, style="dim"))
    return found


def before(matches: Sequence[Match]) -> str:
    """Return in one sentence how well the lock is matched."""
    counts = {verdict: sum(match.verdict == verdict for match in matches) for verdict in _STYLES}
    if not counts["differs"] and not counts["unknown"]:
        return "Everything matches the lock."
    return f"{counts['exact']} exact, {counts['differs']} differ, {counts['unknown']} unknown."


def after(stages: Sequence[StagePair], *, differing: Sequence[Match]) -> str:
    """Return in one sentence whether the results are those of the locked run."""
    if not stages:
        return "There are no recorded results to compare with."
    trained = [stage for stage in stages if stage.weights is not None]
    unequal = [stage.name for stage in trained if not stage.weights]
    others = [stage.name for stage in stages if stage.weights is not False and not stage.same]
    if unequal or others:
        reason = ", ".join(match.what for match in differing) or "nothing that is recorded; kernels of a GPU may vary"
        weights = f"other weights in {', '.join(unequal)}" if unequal else f"other metrics in {', '.join(others)}"
        return f"Not reproduced: {weights}. What differed before: {reason}."
    equal = f"the weights of {', '.join(stage.name for stage in trained)} are equal byte for byte, " if trained else ""
    return f"Reproduced: {equal}metrics are equal."
