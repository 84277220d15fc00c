"""`python -m largeforge.gateway --config FILE`: serve until told to stop.

Standard output carries one event when the gateway listens, standard error the log.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from largeforge.errors import LargeForgeError
from largeforge.events import Events, take_stdout
from largeforge.gateway import config, logs


def main(argv: list[str] | None = None) -> int:
    """Run the gateway and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m largeforge.gateway", description="Serve the experts of a topology."
    )
    parser.add_argument("--config", type=Path, required=True, help="JSON file: gateway, router, topology, upstreams")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    events = Events("gateway", take_stdout())
    logs.set_up()
    try:
        file = config.read(arguments.config)
        from largeforge.gateway.admin.service import Admin, state_of
        from largeforge.gateway.crew.supervisor import supervise
        from largeforge.gateway.crew.worker import Place
        from largeforge.gateway.server import serve

        path, state = arguments.config, state_of(arguments.config)
        if file.gateway.workers > 1 and not arguments.worker:
            supervise(file, path, state, on_listening=lambda url: events.emit("listening", url=url))
            return 0
        place = Place.from_argument(arguments.worker) if arguments.worker else None
        if place is None:
            admin = Admin(config=path, state=state)
        else:
            admin = Admin(config=place.config, state=place.state, shared=place.in_force)
        serve(file, admin, place=place, on_listening=lambda url: events.emit("listening", url=url))
    except LargeForgeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
