"""Show what is deployed on the hosts of an inventory, and whether it serves.

  python -m largeforge status lab                  every deployment: services, releases, states
  python -m largeforge status lab support          one of them, with its updates
  python -m largeforge status lab --json           for programs

Exit codes: 0 everything is up, 1 something is not, or a host cannot be reached.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from largeforge.deploy.operate import Deployed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("inventory", help="name of a file below hosts/")
    parser.add_argument("deployment", nargs="?", default="", help="one deployment; all where none is named")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def run(arguments: argparse.Namespace) -> int:
    """Show it; return 1 when something is not up."""
    from largeforge.deploy import inventory, operate

    hosts = inventory.read(arguments.inventory)
    with operate.connected(hosts) as (_, fleet):
        names = [arguments.deployment] if arguments.deployment else operate.names(hosts, fleet)
        found = [operate.find(hosts, fleet, name) for name in names]
        failed = dict(fleet.failed)
    rows = [row for deployed in found for row in _rows(deployed)]
    if arguments.json:
        print(json.dumps({"services": rows, "unreachable": failed}, indent=2, ensure_ascii=False))
    else:
        _show(rows, failed, found[0] if arguments.deployment else None)
    return 1 if failed or any(row["state"] != "active" for row in rows) else 0


def _rows(deployed: Deployed) -> list[dict[str, Any]]:
    """Return a row for each service, as plain data."""
    rows = []
    canaries = deployed.canaries()
    for release in (*deployed.current(), *canaries):
        unit = deployed.states[release.host]["units"].get(release.unit, {})
        since = float(unit.get("ActiveEnterTimestampMonotonic", 0)) / 1e6
        up_s = max(0.0, deployed.machines[release.host]["uptime_s"] - since) if since else 0.0
        models = sorted({str(answer["model"]) for answer in release.answers.values()})
        rows.append({
            "deployment": deployed.name, "service": release.service, "canary": release in canaries,
            "host": release.host, "release": release.key,
            "state": unit.get("ActiveState", "not there"), "up_s": round(up_s),
            "restarts": int(unit.get("NRestarts", 0)),
            "port": release.port, "models": models, "experts": list(release.answers),
        })  # fmt: skip
    return rows


def _show(rows: list[dict[str, Any]], failed: dict[str, str], deployed: Deployed | None) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False)
    for deployment in dict.fromkeys(row["deployment"] for row in rows):
        console.print(f"[bold]{deployment}[/]")
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("service", "host", "state", "up", "restarts", "port", "release", "models"):
            table.add_column(column, overflow="fold")
        for row in rows:
            if row["deployment"] == deployment:
                table.add_row(*_cells(row))
        console.print(table)
    if not rows:
        console.print("nothing is deployed on the hosts that answer")
    for name, error in failed.items():
        console.print(f"[bold red]✗ {name}[/]  {escape(error)}")
    for record in reversed(deployed.records if deployed else []):
        console.print(f"[dim]{record.id}  {record.recipe}  by {escape(record.by)}  {escape(record.note)}[/]".rstrip())


def _cells(row: dict[str, Any]) -> list[str]:
    from rich.markup import escape

    is_up = row["state"] == "active"
    state = f"[{'green' if is_up else 'red'}]{row['state']}[/]"
    up, models = _duration(row["up_s"]) if is_up else "-", escape("\n".join(row["models"]))
    service = f"{row['service']} (canary)" if row["canary"] else row["service"]
    return [service, row["host"], state, up, str(row["restarts"]), str(row["port"]), row["release"], models]


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
