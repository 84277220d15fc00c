"""Become a gateway that accepts from the socket that `port.py` holds: `gate.py PLACE COMMAND…`.

The socket is passed on as systemd would pass it (sd_listen_fds), and this process becomes the command.
"""

from __future__ import annotations

import array
import os
import socket
import sys
import time

from serve import credentials

FIRST_DESCRIPTOR = 3
PATIENCE_S = 10.0
POLL_S = 0.1


def main(place, *command):
    """Fetch the socket and become the gateway."""
    descriptor = fetch(place)
    if descriptor != FIRST_DESCRIPTOR:
        os.dup2(descriptor, FIRST_DESCRIPTOR)
        os.close(descriptor)
    os.set_inheritable(FIRST_DESCRIPTOR, True)
    told = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "gateway"}
    os.execve(command[0], list(command), {**os.environ, **credentials(), **told})


def fetch(place):
    """Return a descriptor of the socket; waits a little for its holder."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
                asking.connect(place)
                _, ancillary, _, _ = asking.recvmsg(1, socket.CMSG_LEN(4))
        except OSError:
            ancillary = []
        for _, kind, data in ancillary:
            if kind == socket.SCM_RIGHTS:
                return array.array("i", data[:4])[0]
        if time.monotonic() > until:
            sys.exit("the holder of the gateway's socket at %s does not hand it over" % place)
        time.sleep(POLL_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
