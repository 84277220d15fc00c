"""Bring back what served before the last update, on the hosts of an inventory.

  python -m largeforge rollback lab support                   what served before
  python -m largeforge rollback lab support --to 20261122T09  the end of an update that `status lab support` lists

The releases are still on the hosts (deploy.update.keep_releases). Where the servers before were left on standby
(deploy.update.standby), that takes as long as the gateways need to read a file.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("inventory", help="name of a file below hosts/")
    parser.add_argument(
        "deployment", nargs="?", default="", help="name of the deployment; may be left out if there is one"
    )
    parser.add_argument("--to", default="", metavar="ID", help="an update, or the start of its name")


def run(arguments: argparse.Namespace) -> int:
    """Go back, and say what was done."""
    from largeforge.deploy import inventory, operate

    hosts = inventory.read(arguments.inventory)
    done = operate.go_back(
        hosts, arguments.deployment, to=arguments.to, report=lambda host, text: print(f"{host}: {text}", flush=True),
        on_begin=lambda text: print(text, flush=True),
    )  # fmt: skip
    for one in done:
        new = one.replacement.new
        print(
            f"{new.service} on {new.host}: release {new.key} after {one.seconds:.1f} s, {one.down_s:.1f} s without one"
        )
    return 0
