"""Take a deployment away from the hosts of an inventory: units, releases, logs, models that no other one uses.

  python -m largeforge destroy lab support
  python -m largeforge destroy lab support --yes --keep-models

What is registered, and the runs on this machine, stay.
"""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("inventory", help="name of a file below hosts/")
    parser.add_argument("deployment", help="name of the deployment")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--keep-models", action="store_true", help="leave models and environments on the hosts")


def run(arguments: argparse.Namespace) -> int:
    """Ask, and take it away."""
    from largeforge.deploy import inventory, operate
    from largeforge.errors import RecipeError

    hosts = inventory.read(arguments.inventory)
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise RecipeError("destroy takes what serves away: say --yes")
        if (
            input(f"Take {arguments.deployment} away from {arguments.inventory}? Type its name: ")
            != arguments.deployment
        ):
            print("nothing was done")
            return 1
    operate.take_away(
        hosts,
        arguments.deployment,
        report=lambda host, text: print(f"{host}: {text}"),
        keep_models=arguments.keep_models,
    )
    return 0
