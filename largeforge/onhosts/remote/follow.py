"""What a job tells, its events and its log, from any place in them on and as they grow."""

from __future__ import annotations

import os
import time

from disk import loaded
from folders import attempt_file
from status import status
from talk import tell

FOLLOW_S = 0.2
LOOK_S = 3.0
CHUNK_BYTES = 65536


def follow(request):
    """Tell what a job has told since some places in its events and its log, until its end."""
    folder = request["folder"]
    job = loaded(os.path.join(folder, "job.json"))
    if not job:
        tell(kind="ended", ended={"code": None, "gone": True})
        return 0
    places = {"events": request.get("events", 0), "log": request.get("log", 0)}
    looked, final = 0.0, {"active": True}
    while True:
        if time.monotonic() - looked > LOOK_S or os.path.exists(attempt_file(folder, job, "ended", "json")):
            looked, final = time.monotonic(), status(folder)
            print("", flush=True)  # notices that nobody reads any more
        for name, suffix in (("events", "jsonl"), ("log", "txt")):
            for text, place in grown(
                attempt_file(folder, job, name, suffix), places[name], to_the_end=not final["active"]
            ):
                places[name] = place
                tell(kind=name, text=text, at=place)
        if not final["active"]:
            tell(kind="ended", ended=final["ended"], checkpoints=final["checkpoints"])
            return 0
        time.sleep(FOLLOW_S)


def grown(path, place, *, to_the_end):
    """Yield what a file has got since a place in it, in whole lines, with the place after each part."""
    try:
        stream = open(path, "rb")  # noqa: SIM115 - closed below
    except OSError:
        return
    with stream:
        stream.seek(place)
        while True:
            data = stream.read(CHUNK_BYTES)
            if not to_the_end or len(data) == CHUNK_BYTES:
                whole = data.rfind(b"\n") + 1
                data = data[:whole] if whole or len(data) < CHUNK_BYTES else data
            if not data:
                return
            place += len(data)
            yield data.decode("utf-8", "replace"), place
            stream.seek(place)
