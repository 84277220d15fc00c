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
    arguments = parser.parse_args(argv)
    events = Events("gateway", take_stdout())
    logs.set_up()
    try:
        file = config.read(arguments.config)
        from largeforge.gateway.admin import access
        from largeforge.gateway.admin.service import Admin
        from largeforge.gateway.server import serve

        path = arguments.config
        admin = Admin(token=access.token(), config=path, state=path.with_suffix(".state.json"))
        serve(file, admin, on_listening=lambda url: events.emit("listening", url=url))
    except LargeForgeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
