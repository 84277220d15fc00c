"""The line of those who wait for a place: a ticket is a file that is locked as long as its holder lives."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import time

from begin import begin
from disk import loaded
from facts import gpus
from folders import login, own_folder
from places import candidates, holder, is_locked
from talk import Leash, tell

POLL_S = 0.5


def queue(request):
    """Stand in line until a place is free and nobody is before us; start the job when the other end says so."""
    base = request["base"]
    own_folder(base, login())
    leash = Leash(request["silence_s"])
    told = None
    with ticket(base, request) as mine:
        while True:
            said = standing(base, request, mine)
            if said != told:
                tell(**said)
                told = said
            if said["kind"] == "turn":
                break
            leash.lines(POLL_S)
        while True:
            for line in leash.lines(POLL_S):
                if line.startswith("go "):
                    return begin(request, json.loads(line[3:]))


def standing(base, request, mine):
    """Return where we are in line, and who computes."""
    ahead = [one for one in waiting(base) if bool(one["gpus"]) == bool(request["gpus"])]
    names = [one["ticket"] for one in ahead]
    before = ahead[: names.index(mine)] if mine in names else ahead
    places = candidates(request)
    holders = {place: holder(base, place) for place in places}
    free = [place for place in places if not holders[place]]
    if not before and len(free) >= max(1, request["gpus"]):
        return {"kind": "turn"}
    held = [one for one in holders.values() if one]
    return {
        "kind": "waiting",
        "position": len(before) + 1,
        "ahead": [shown(one) for one in before],
        "holders": [shown(one) for one in held],
        "free": len(free),
    }


def shown(one):
    """Return what others are told of who computes or waits."""
    return {key: one.get(key, "") for key in ("who", "what", "since", "place")}


@contextlib.contextmanager
def ticket(base, request):
    """Stand in line; gives the ticket's name."""
    name = "%020d-%s" % (time.time_ns(), request["id"])
    path = os.path.join(base, "queue", "waiting", name)
    told = {key: request[key] for key in ("id", "who", "what", "gpus")}
    with open(path + ".new", "w", encoding="utf-8") as stream:
        json.dump({**told, "since": time.time()}, stream)
        stream.flush()
        fcntl.flock(stream, fcntl.LOCK_EX)
        os.rename(path + ".new", path)
        try:
            yield name
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)


def waiting(base):
    """Return those who wait, in their order; tickets of the dead are removed."""
    found = []
    for path in sorted(glob.glob(os.path.join(base, "queue", "waiting", "*[!w]"))):  # begun ones end in .new
        if not is_locked(path):
            with contextlib.suppress(OSError):
                os.unlink(path)
            continue
        one = loaded(path)
        if one:
            found.append({**one, "ticket": os.path.basename(path)})
    return found


def overview(request):
    """Return each place with who computes there, and those who wait."""
    base = request["base"]
    known = {gpu["uuid"]: gpu["name"] for gpu in gpus()}
    places = [{"place": uuid, "name": "GPU %d, %s" % (index, name)} for index, (uuid, name) in enumerate(known.items())]
    found = [{**one, "holder": holder(base, one["place"])} for one in [*places, {"place": "cpu", "name": "processors"}]]
    return {"places": found, "waiting": waiting(base)}
