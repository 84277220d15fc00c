"""Show who trains on the hosts of an inventory, and who waits for them.

  python -m largeforge queue lab             each GPU, and the processors: who has it, since when, and who is in line
  python -m largeforge queue lab --json      for programs

Exit codes: 0 all hosts answered, 1 not all.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from largeforge.onhosts.host import OnHost


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("inventory", help="name of a file below hosts/")
    parser.add_argument("--host", action="append", default=[], metavar="NAME", help="this one alone; may be repeated")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def run(arguments: argparse.Namespace) -> int:
    """Show it; return 1 when a host does not answer."""
    from largeforge.deploy import inventory
    from largeforge.deploy.connection import reaches
    from largeforge.deploy.operate import host_names
    from largeforge.onhosts.host import OnHost

    hosts = inventory.read(arguments.inventory)
    names = host_names(hosts, arguments.host)
    wanted = [name for name in names if not hosts.hosts[name].is_local and hosts.hosts[name].has_role("train")]
    with reaches(hosts, wanted) as reached, ThreadPoolExecutor(max(1, len(wanted))) as pool:
        found = dict(pool.map(_asked, [OnHost(reach) for reach in reached.values()]))
    if arguments.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        _show(found)
    return 1 if any("error" in said for said in found.values()) else 0


def _asked(host: OnHost) -> tuple[str, dict[str, Any]]:
    from largeforge.errors import DeployError

    try:
        host.install()
        return host.name, host.ask("list", 60, base=host.base)
    except DeployError as error:
        return host.name, {"error": str(error).removeprefix(f"{host.name}: ")}


def _show(found: Mapping[str, Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from largeforge.console.text import duration

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("host", "place", "who", "what", "since"):
        table.add_column(column, overflow="fold")
    console = Console(soft_wrap=True, highlight=False)
    for name, said in found.items():
        if "error" in said:
            table.add_row(name, "cannot be reached", Text(said["error"], "red"), "", "")
            continue
        for one in said["places"]:
            table.add_row(name, one["name"], *_person(one["holder"], duration))
        for position, one in enumerate(said["waiting"], 1):
            table.add_row(name, f"in line, {position}", *_person(one, duration))
    console.print(table)


def _person(one: Mapping[str, Any] | None, duration: Any) -> tuple[str, str, str]:
    if one is None:
        return "free", "", ""
    since = duration(time.time() - one["since"]) if one.get("since") else ""
    return str(one["who"]), str(one["what"]), since
