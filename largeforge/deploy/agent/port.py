"""Hold the socket that clients connect to, and hand it to the gateways of this host: `port.py HOST PORT PLACE USER`.

The socket outlives every gateway: while one finishes, the next accepts from it. It is kept in systemd's store of
descriptors, so that this process may be restarted, too. Who connects to PLACE as root or USER is given a copy
(SCM_RIGHTS).
"""

from __future__ import annotations

import array
import os
import pwd
import socket
import struct
import sys

from ask import notify

BACKLOG = 4096
FIRST_DESCRIPTOR = 3


def main(host, port, place, user):
    """Hand out copies for ever."""
    address = os.environ.pop("NOTIFY_SOCKET", "")
    listener = stored(host, int(port))
    if listener is None:
        listener = bind(host, int(port))
        store(listener, address)
    allowed = {0, pwd.getpwnam(user).pw_uid}
    os.makedirs(os.path.dirname(place), exist_ok=True)
    if os.path.exists(place):
        os.unlink(place)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.bind(place)
        os.chmod(place, 0o666)  # who asks is looked at below
        door.listen(16)
        notify("READY=1\nSTATUS=holds %s:%s" % (host, port), address)
        while True:
            asking, _ = door.accept()
            with asking:
                hand_over(asking, listener, allowed)


def hand_over(asking, listener, allowed):
    """Give a copy of the socket to whoever may have it."""
    uid = struct.unpack("3i", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[1]
    if uid in allowed:
        asking.sendmsg([b"1"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener.fileno()]))])


def bind(host, port):
    """Return a socket that listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(BACKLOG)
    return listener


def stored(host, port):
    """Return the socket that systemd has kept for this unit; None at its first start, or for another address."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    found = None
    for descriptor in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(os.environ.get("LISTEN_FDS", "0"))):
        kept = socket.socket(fileno=descriptor)
        if kept.getsockname()[:2] == (host, port):
            found = kept
        else:
            kept.close()
    return found


def store(listener, address):
    """Have systemd keep the socket."""
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messenger:
        messenger.connect("\0" + address[1:] if address.startswith("@") else address)
        descriptors = array.array("i", [listener.fileno()])
        messenger.sendmsg([b"FDSTORE=1\nFDNAME=gateway"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
