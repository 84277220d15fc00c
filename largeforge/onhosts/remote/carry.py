"""What the unit of a job runs: the stage from its beginning to its end, and what is written down of the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time

from disk import hashes, loaded, write
from facts import memory_kills
from folders import attempt_file, secret_file
from places import take


def work(folder):
    """Take the places, run the stage to its end, and write down how it ended, with the hashes of what it made."""
    job = loaded(os.path.join(folder, "job.json"))
    locks = [take(os.path.join(job["queue"], place + ".lock")) for place in job["places"]]
    if None in locks:
        write(attempt_file(folder, job, "ended", "json"), json.dumps({"code": 1, "error": "another one has the place"}))
        return 1
    environment = {**os.environ, **job["environment"], **secrets_of(job)}
    kills = memory_kills()
    stops = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stops.append(1))
    with (
        open(attempt_file(folder, job, "events", "jsonl"), "ab") as events,
        open(attempt_file(folder, job, "log", "txt"), "ab") as log,
    ):
        try:
            process = subprocess.Popen(
                job["argv"], stdin=subprocess.DEVNULL, stdout=events, stderr=log, env=environment,
                start_new_session=True, cwd=folder,
            )  # fmt: skip
        except OSError as error:
            said = "%s: %s" % (job["argv"][0], error.strerror)
            write(attempt_file(folder, job, "ended", "json"), json.dumps({"code": 127, "error": said}))
            return 1
        code = waited_for(process, stops)
    cancelled = os.path.exists(attempt_file(folder, job, "cancelled", "txt"))
    ended = {"code": code, "at": time.time(), "cancelled": cancelled, "stopped": bool(stops)}
    if code == -signal.SIGKILL and memory_kills() > kills:
        ended["memory"] = True
    if code == 0:
        ended["files"] = hashes(os.path.join(folder, "stage", "out"))
    write(attempt_file(folder, job, "ended", "json"), json.dumps(ended))
    return 0 if code == 0 else 1


def waited_for(process, stops):
    """Return the exit code of the stage when it has ended; each stop that is asked for goes on to it."""
    asked = 0
    while process.poll() is None:
        if len(stops) > asked:
            asked = len(stops)
            with contextlib.suppress(OSError):
                process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
    return process.returncode


def secrets_of(job):
    """Return the secrets of a job, and remove them."""
    path = secret_file(job)
    found = loaded(path) or {}
    with contextlib.suppress(OSError):
        os.unlink(path)
    return found


def mend(folder):
    """Write down how a unit ended that could not do it itself."""
    job = loaded(os.path.join(folder, "job.json"))
    path = attempt_file(folder, job, "ended", "json")
    result = os.environ.get("SERVICE_RESULT", "")
    ended = loaded(path)
    if ended is None:
        how = {"result": result, "status": os.environ.get("EXIT_STATUS", "")}
        write(path, json.dumps({"code": None, "at": time.time(), **how, "memory": result == "oom-kill"}))
    elif result == "oom-kill" and ended.get("code"):
        write(path, json.dumps({**ended, "memory": True, "cancelled": False}))
    return 0
