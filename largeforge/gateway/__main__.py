"""`python -m largeforge.gateway --config FILE`: serve until told to stop.

Standard output carries one event when the gateway listens, standard error the log.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.errors import LargeForgeError
from largeforge.events import Events, take_stdout
from largeforge.gateway import config, logs

if TYPE_CHECKING:
    from largeforge.gateway.notify import Told


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
        from largeforge.gateway.crew.telling import ToParent
        from largeforge.gateway.crew.worker import Place
        from largeforge.gateway.notify import Notifier
        from largeforge.gateway.server import serve

        path, state = arguments.config, state_of(arguments.config)

        def on_listening(url: str) -> None:
            events.emit("listening", url=url)

        if file.gateway.workers > 1 and not arguments.worker:
            supervise(file, path, state, notifier=Notifier.of(), on_listening=on_listening)
            return 0
        place = Place.from_argument(arguments.worker) if arguments.worker else None
        told: Told
        if place is None:
            admin, told = Admin(config=path, state=state), Notifier.of()
        else:
            admin = Admin(config=place.config, state=place.state, shared=place.in_force)
            told = ToParent(events, beat_s=place.beat_s)
        serve(file, admin, told=told, place=place, on_listening=on_listening)
    except LargeForgeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
