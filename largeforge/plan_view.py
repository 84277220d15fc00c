"""Show a plan to a person: stages, what each uses and makes, what is already done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from largeforge import forecast_view
from largeforge.forecast.text import duration
from largeforge.secrets import without_passwords

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType

    from largeforge.plan import Plan


def render(plan: Plan, statuses: Mapping[str, str]) -> RenderableType:
    """Return the plan as something that rich can print."""
    head = Text.assemble((plan.recipe.name, "bold"), f"  {plan.recipe.description}\n", (f"on {plan.machine}", "dim"))
    timed = any(found.hours for found in plan.forecasts.values())
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("stage", style="bold", no_wrap=True)
    table.add_column("does", ratio=3, overflow="fold")
    table.add_column("uses", ratio=4, overflow="fold")
    table.add_column("makes", ratio=3, overflow="fold")
    for title, is_needed in (("takes", timed), ("state", bool(statuses))):
        if is_needed:
            table.add_column(title, no_wrap=True)
    for stage in plan.stages:
        forecast, state = plan.forecasts.get(stage.name), statuses.get(stage.name, "to do")
        takes = [duration(forecast.hours) if forecast and forecast.hours else ""] if timed else []
        states = [Text(state, "green" if state != "to do" else "")] if statuses else []
        table.add_row(
            stage.name, Text(stage.title), Text(without_passwords(stage.uses)), Text(stage.produces), *takes, *states
        )
    return Group(head, Text(), table, Text(), *forecast_view.render(plan.forecasts))


def summary(plan: Plan, statuses: Mapping[str, str], command: str) -> Text:
    """Return how much is left to do and the command that does it; to be printed as one line, for copying."""
    waiting = sum(stage.name not in statuses for stage in plan.stages)
    count = f"{waiting} of {len(plan.stages)} stages to do; lock {plan.digest[:12]}. Run it: "
    return Text.assemble(count, (command, "bold"))
