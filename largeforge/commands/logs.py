"""Show the logs of what is deployed on the hosts of an inventory.

python -m largeforge logs lab                          the last lines of every service
python -m largeforge logs lab support general -f       follow one service, on all its hosts
python -m largeforge logs lab support gateway -n 500
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("inventory", help="name of a file below hosts/")
    parser.add_argument(
        "deployment", nargs="?", default="", help="name of the deployment; may be left out if there is one"
    )
    parser.add_argument("service", nargs="?", default="", help="one service, as `status` shows them; else all")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as lines are written, until Ctrl-C")
    parser.add_argument(
        "-n", "--lines", type=int, default=50, metavar="N", help="last lines of each (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the lines, each with its service and host where there are several."""
    from largeforge.deploy import inventory, operate, shell

    hosts = inventory.read(arguments.inventory)
    with operate.connected(hosts) as (reached, fleet):
        deployed = operate.find(hosts, fleet, arguments.deployment)
        chosen = operate.chosen(deployed, arguments.service)
        follow = ["--follow=name", "--retry", "--quiet"] if arguments.follow else []

        def show(index: int) -> None:
            release = chosen[index]
            log = deployed.layouts[release.host].log(release.service)
            prefix = f"{release.service}@{release.host}  " if len(chosen) > 1 else ""
            for line in shell.lines(reached[release.host], ["tail", f"--lines={arguments.lines}", *follow, log]):
                sys.stdout.write(f"{prefix}{_printable(line)}\n")
                sys.stdout.flush()

        with ThreadPoolExecutor(max_workers=max(1, len(chosen))) as pool, suppress(KeyboardInterrupt):
            for future in [pool.submit(show, index) for index in range(len(chosen))]:
                future.result()
    return 0


def _printable(line: str) -> str:
    """Return a line without what would steer the terminal."""
    return "".join(char if char.isprintable() or char == "\t" else ascii(char)[1:-1] for char in line)
