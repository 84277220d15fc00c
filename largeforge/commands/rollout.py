"""Look at a rollout on the hosts of an inventory, hold it, end it.

  python -m largeforge rollout status lab support     where it is, what was decided and why
  python -m largeforge rollout pause lab support      keep its share of the traffic; a worse model is still sent back
  python -m largeforge rollout resume lab support     go on, also after whoever conducted it is gone
  python -m largeforge rollout promote lab support    have the new model take over now
  python -m largeforge rollout abort lab support      have the old model serve alone again

A rollout begins with a deployment (`rollout=canary` in a recipe), which conducts it. Commands work from any machine
with the inventory, whether whoever conducts it is still there or not: all of its state is on the hosts.

Exit codes: 0 done, 1 it cannot be done, 3 the new model was sent back for what was seen of it.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from largeforge.errors import GateError

if TYPE_CHECKING:
    from largeforge.deploy.rollouts.document import Document


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("do", choices=("status", "pause", "resume", "promote", "abort"), help="what to do")
    parser.add_argument("inventory", help="name of a file below hosts/")
    parser.add_argument(
        "deployment", nargs="?", default="", help="name of the deployment; may be left out if there is one"
    )
    parser.add_argument(
        "words", nargs="*", metavar="registry.key=value", help="the registry whose aliases follow, as in a recipe"
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def run(arguments: argparse.Namespace) -> int:
    """Do it, and say what the rollout has come to."""
    from largeforge.catalog.words import settings
    from largeforge.deploy import inventory
    from largeforge.deploy.rollouts import control
    from largeforge.deploy.rollouts.registered import settle

    name, words = arguments.deployment, list(arguments.words)
    if "=" in name:
        name, words = "", [name, *words]
    hosts = inventory.read(arguments.inventory)
    if arguments.do == "status":
        name, known = control.rollouts(hosts, name)
        _show(name, known, as_json=arguments.json)
        return 0
    registry = settings(words)

    def report(host: str, text: str) -> None:
        if not arguments.json:
            print(f"{host}: {text}" if host else text, flush=True)

    found = control.act(
        hosts, name, arguments.do, report=report,
        settle=lambda document, deployment: settle(document, registry, deployment, report=report),
    )  # fmt: skip
    _show(name, [found], as_json=arguments.json)
    return _code(arguments.do, found)


def _code(command: str, found: Document) -> int:
    """Return the exit code: whether the rollout has come to what was wanted."""
    if command in ("promote", "abort"):
        wanted = "promoted" if command == "promote" else "rolled_back"
        return 0 if found.ended == wanted else GateError.exit_code if found.ended == "rolled_back" else 1
    is_paused = any(group.phase == "paused" for group in found.groups)
    return 0 if is_paused is (command == "pause") else 1


def _show(name: str, known: list[Document], *, as_json: bool) -> None:
    from rich.console import Console

    from largeforge.deploy.rollouts import plain, telling

    if as_json:
        print(json.dumps([plain.as_dict(document) for document in known], indent=2))
    else:
        Console(highlight=False).print(telling.shown(name, known))
