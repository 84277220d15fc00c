"""Run a command on hosts of an inventory, side by side, as root where the inventory allows it.

  python -m largeforge exec lab -- nvidia-smi -L
  python -m largeforge exec lab --host one --host two -- journalctl -n 20
  python -m largeforge exec lab --no-root -- id

Exit codes: 0 it succeeded everywhere, 1 it did not.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("inventory", help="name of a file below hosts/")
    parser.add_argument("--host", action="append", default=[], metavar="NAME", help="this one alone; may be repeated")
    parser.add_argument("--no-root", action="store_true", help="run it as the account that connects")
    parser.add_argument(
        "--timeout", type=float, default=600.0, metavar="S", help="longest time (default: %(default)g s)"
    )
    parser.add_argument("words", nargs="+", metavar="-- COMMAND", help="the command and its arguments")


def run(arguments: argparse.Namespace) -> int:
    """Run it, and print what each host says."""
    from largeforge.deploy import inventory, shell
    from largeforge.deploy.connection import reaches
    from largeforge.deploy.operate import host_names
    from largeforge.errors import DeployError

    hosts = inventory.read(arguments.inventory)
    with reaches(hosts, host_names(hosts, arguments.host)) as reached:

        def one(name: str) -> tuple[str, str, bool]:
            try:
                said = shell.run(
                    reached[name], arguments.words, root=not arguments.no_root, timeout_s=arguments.timeout
                )
                return name, said, True
            except DeployError as error:
                return name, str(error).removeprefix(f"{name}: "), False

        with ThreadPoolExecutor(max_workers=min(32, max(1, len(reached)))) as pool:
            results = list(pool.map(one, reached))
    for name, said, good in results:
        for line in said.rstrip("\n").splitlines() or [""]:
            print(f"{name}{'' if good else ' FAILED'}  {line}".rstrip())
    return 0 if all(good for _, _, good in results) else 1
