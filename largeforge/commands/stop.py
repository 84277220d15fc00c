"""Stop what is deployed on the hosts of an inventory; it stays in place, and `restart` starts it again.

python -m largeforge stop lab support             all services of a deployment
python -m largeforge stop lab support general-2   one of them, as `status` shows them
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("inventory", help="name of a file below hosts/")
    parser.add_argument(
        "deployment", nargs="?", default="", help="name of the deployment; may be left out if there is one"
    )
    parser.add_argument("service", nargs="?", default="", help="one service; else all")


def run(arguments: argparse.Namespace) -> int:
    """Do it, and say what was done."""
    return act(arguments, "stop")


def act(arguments: argparse.Namespace, action: str) -> int:
    """Stop or restart what the command line names; return 0."""
    from largeforge.deploy import inventory, operate

    operate.set_running(
        inventory.read(arguments.inventory), arguments.deployment, arguments.service, action=action,
        report=lambda host, text: print(f"{host}: {text}", flush=True),
    )  # fmt: skip
    return 0
