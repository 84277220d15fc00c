"""Be the main process of a model server's unit: `serve.py RELEASE`.

Starts the server, tells systemd when it serves its models, and afterwards as long as it is healthy, so that one that
hangs is killed and started again. Ends when the server ends: well when that was asked for, and with an error when it
was not.
"""

from __future__ import annotations

import glob
import json
import os
import signal
import subprocess
import sys
import time

from ask import is_healthy, missing, notify

POLL_S = 0.25
REMEMBERED = 5
"""Releases whose last start is kept."""
GIVE_UP_S = 10.0
"""A health check that takes longer counts as none."""


def main(release):
    """Run the server of a release to its end."""
    with open(os.path.join(release, "service.json"), encoding="utf-8") as stream:
        service = json.load(stream)
    with open(os.path.join(release, "port"), encoding="utf-8") as stream:
        port = int(stream.read())
    address = os.environ.pop("NOTIFY_SOCKET", "")
    watchdog_s = int(os.environ.pop("WATCHDOG_USEC", "0")) / 1e6
    argv = [word.replace("{port}", str(port)).replace("{release}", release) for word in service["argv"]]
    began = time.monotonic()
    server = subprocess.Popen(argv, env={**os.environ, **service["environment"], **credentials()})
    told = []

    def stop(number, frame):
        told.append(number)
        server.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    place = {**service["place"], "port": port}
    if wait_until_ready(server, place, service["serves"]):
        remember(os.path.basename(release), time.monotonic() - began)
        notify("READY=1\nSTATUS=serves %s" % ", ".join(service["serves"]), address)
        watch(server, place, address, watchdog_s)
    code = server.wait()
    return 0 if told else code if code > 0 else 128 - code if code else 1


def credentials():
    """Return the variables that systemd decrypted for this service."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    found = {}
    for name in os.listdir(folder) if folder else ():
        with open(os.path.join(folder, name), encoding="utf-8") as stream:
            found[name] = stream.read().rstrip("\n")
    return found


def wait_until_ready(server, place, names):
    """Return whether the server got to serving all its models before it ended; systemd limits the time."""
    while server.poll() is None:
        if is_healthy(place) and not missing(place, names):
            return True
        time.sleep(POLL_S)
    return False


def remember(key, seconds, folder="."):
    """Write how long this start of a release took, and when it was, for `metrics.py`; the folder is the service's."""
    path = os.path.join(folder, "started-%s.json" % key)
    try:
        with open(path + ".new", "w", encoding="utf-8") as stream:
            json.dump({"seconds": round(seconds, 2), "at": round(time.time())}, stream)
        os.replace(path + ".new", path)
        for old in sorted(glob.glob(os.path.join(folder, "started-*.json")), key=os.path.getmtime)[:-REMEMBERED]:
            os.remove(old)
    except OSError as error:
        print("the time of this start is not kept: %s" % error, file=sys.stderr)  # a full disk stops no server


def watch(server, place, address, watchdog_s):
    """Tell systemd that the server is alive, as long as it is."""
    pause_s = watchdog_s / 4 if watchdog_s else GIVE_UP_S
    while server.poll() is None:
        if watchdog_s and is_healthy(place, GIVE_UP_S):
            notify("WATCHDOG=1", address)
        try:
            server.wait(pause_s)
        except subprocess.TimeoutExpired:
            continue


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1])))
