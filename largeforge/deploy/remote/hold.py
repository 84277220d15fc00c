"""Hold the lock of a deployment on this host as long as somebody at the other end of the connection wants it.

    hold.py DEPLOYMENT WHO SILENCE_S

Prints {"held": true} and keeps the lock while lines come in; ends, and the lock with it, when the input ends or is
silent for too long, so that neither a controller that died nor a link that broke leaves it behind. Prints
{"held_by": …} and ends when another has it.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import sys
import time


def main(deployment, who, silence_s):
    """Hold the lock to the end; returns an exit code."""
    os.makedirs("/run/largeforge", exist_ok=True)
    with open("/run/largeforge/%s.lock" % deployment, "a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            print(json.dumps({"held_by": stream.read().strip() or "somebody"}), flush=True)
            return 1
        stream.truncate(0)
        stream.write("%s since %s" % (who, time.strftime("%H:%M:%S UTC", time.gmtime())))
        stream.flush()
        print(json.dumps({"held": True}), flush=True)
        while select.select([0], [], [], float(silence_s))[0] and os.read(0, 4096):
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
