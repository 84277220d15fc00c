"""Start and stop replicas of what is deployed on the hosts of an inventory, as its recipe's autoscaling says.

  python -m largeforge autoscale lab support             until it is interrupted; everything stays as it is then
  python -m largeforge autoscale lab support --dry-run   only say what would be decided

Only one at a time scales a deployment. It may end and start again whenever it likes: what it knows is on the hosts.
"""

from __future__ import annotations

import argparse
import time

MOST_DIGITS = 9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("inventory", help="name of a file below hosts/")
    parser.add_argument(
        "deployment", nargs="?", default="", help="name of the deployment; may be left out if there is one"
    )
    parser.add_argument("--dry-run", action="store_true", help="look and decide, and change nothing")
    parser.add_argument("--looks", type=_positive, metavar="N", help="end after so many looks, 1 or more")


def run(arguments: argparse.Namespace) -> int:
    """Scale until interrupted, and say what is decided and done."""
    from largeforge.deploy import inventory
    from largeforge.deploy.scaling import controller

    controller.run(
        inventory.read(arguments.inventory), arguments.deployment, acts=not arguments.dry_run, looks=arguments.looks,
        report=lambda text: print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True),
    )  # fmt: skip
    return 0


def _positive(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of looks, 1 or more, not {text[:20]!r}")
    return number
