"""Look at the machines of an inventory: whether they can be reached and used, and what they are.

  python -m largeforge hosts check lab            one line a host, and what stands in the way
  python -m largeforge hosts facts lab            system, driver, CUDA, disk, clock, GPUs and free memory
  python -m largeforge hosts facts lab --json     everything, for programs
  python -m largeforge hosts check lab --host one --host two

The inventory is hosts/NAME.yaml. Nothing is changed on the hosts. Exit codes: 0 all can be used, 1 not all.
"""

from __future__ import annotations

import argparse
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from largeforge.recipe.sections.hosts import Hosts

GIB = 2**30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("action", choices=("check", "facts"), help="check: can they be used; facts: what they are")
    parser.add_argument("inventory", help="name of a file below hosts/")
    parser.add_argument("--host", action="append", default=[], metavar="NAME", help="this one alone; may be repeated")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def run(arguments: argparse.Namespace) -> int:
    """Print what all hosts say; return 1 when one cannot be used."""
    from largeforge.deploy import inventory
    from largeforge.deploy.host_findings import findings
    from largeforge.deploy.operate import host_names

    hosts = inventory.read(arguments.inventory)
    names = host_names(hosts, arguments.host)
    found, failed = _look(hosts, names)
    said = {name: list(findings(hosts.hosts[name], machine)) for name, machine in found.items()}
    unfit = [name for name, each in said.items() if any(finding.level == "error" for finding in each)]
    if arguments.json:
        plain = {
            name: {"error": failed[name]}
            if name in failed
            else {**found[name], "findings": [vars(f) for f in said[name]]}
            for name in names
        }
        print(json.dumps(plain, indent=2, ensure_ascii=False))
    else:
        _show(names, found, failed, said, facts=arguments.action == "facts")
    return 1 if failed or unfit else 0


def _look(hosts: Hosts, names: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what each host says of itself, and of the others why they do not."""
    from largeforge.deploy.connection import reaches
    from largeforge.deploy.fleet import Fleet

    with reaches(hosts, names) as reached, Fleet(reached) as fleet:
        found = fleet.look({name: {"root": hosts.hosts[name].paths.root} for name in names if name not in fleet.failed})
        return {name: said["machine"] for name, said in found.items()}, dict(fleet.failed)


def _show(
    names: list[str], found: Mapping[str, Any], failed: Mapping[str, str], said: Mapping[str, Any], *, facts: bool
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(soft_wrap=True, highlight=False)
    if facts:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("host", "system", "driver", "CUDA", "GPUs", "memory free", "disk free", "clock", "cores"):
            table.add_column(column, overflow="fold")
        for name in names:
            _add_row(table, name, found.get(name))
        console.print(table)
    for name in names:
        each = said.get(name, ())
        sign, style = ("✗", "bold red") if name in failed else ("!", "yellow") if each else ("✓", "green")
        if name in failed:
            console.print(Text.assemble((f"{sign} {name}", style), f"  {failed[name]}"))
        elif each or not facts:
            console.print(Text.assemble((f"{sign} {name}", style), "" if each else f"  {_summary(found[name])}"))
        for finding in each:
            console.print(Text(f"    {finding.level}: {finding}", "red" if finding.level == "error" else "yellow"))


def _add_row(table: Table, name: str, machine: Mapping[str, Any] | None) -> None:
    if machine is None:
        table.add_row(name, "cannot be reached")
        return
    ahead = machine["clock_ahead_s"]
    table.add_row(
        name, _system(machine), machine["driver"] or "-", machine["cuda"] or "-", _gpus(machine),
        f"{machine['free_bytes'] / GIB:.1f} of {machine['memory_bytes'] / GIB:.1f} GiB",
        f"{machine['disk_free_bytes'] / GIB:.0f} GiB", f"{ahead:+.1f} s", str(machine["cores"]),
    )  # fmt: skip


def _system(machine: Mapping[str, Any]) -> str:
    short = re.sub(r" GNU/Linux| LTS| \(.*\)", "", machine["system"])
    return short if machine["arch"] == "x86_64" else f"{short} {machine['arch']}"


def _gpus(machine: Mapping[str, Any]) -> str:
    kinds: dict[str, list[str]] = {}
    for gpu in machine["gpus"]:
        kinds.setdefault(gpu["name"], []).append(f"{gpu['free_bytes'] / GIB:.0f}/{gpu['memory_bytes'] / GIB:.0f}")
    return "; ".join(f"{len(free)} × {kind} ({', '.join(free)} GiB free)" for kind, free in kinds.items()) or "-"


def _summary(machine: Mapping[str, Any]) -> str:
    gpus = _gpus(machine)
    return f"{_system(machine)}, {'no GPU' if gpus == '-' else gpus}, answers in {machine['answered_s'] * 1000:.0f} ms"
