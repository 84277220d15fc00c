"""Hold the lock of a deployment on this host as long as somebody at the other end of the connection wants it.

    hold.py DEPLOYMENT TOKEN WHO SILENCE_S

Prints {"held": true} and keeps the lock while lines come in; ends, and the lock with it, when the input ends or is
silent for too long, so that neither a controller that died nor a link that broke leaves it behind. Prints
{"held_by": …} and ends when another has it. `before` is the token of who had it last: whoever lost it to a broken link
and finds its own there may go on as if nothing had happened.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import sys
import time


def main(deployment, token, who, silence_s):
    """Hold the lock to the end; returns an exit code."""
    os.makedirs("/run/largeforge", exist_ok=True)
    with open("/run/largeforge/%s.lock" % deployment, "a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            before, text = last(stream)
            print(json.dumps({"held_by": text or "somebody", "before": before}), flush=True)
            return 1
        before, _ = last(stream)
        stream.truncate(0)
        stream.write("%s %s since %s" % (token, who, time.strftime("%H:%M:%S UTC", time.gmtime())))
        stream.flush()
        print(json.dumps({"held": True, "before": before}), flush=True)
        while select.select([0], [], [], float(silence_s))[0] and os.read(0, 4096):
            pass
    return 0


def last(stream):
    """Return the token of who had the lock last, and the words about that."""
    stream.seek(0)
    token, _, text = stream.read().strip().partition(" ")
    return token, text


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
