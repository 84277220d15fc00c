"""Trainings on this host: who may compute, the job as a unit of its own, and what it tells.

    job.py look REQUEST      make the folders, say what the host is and how a job stands
    job.py queue REQUEST     wait for a turn; a line `go ORDER` on the input then starts the job as a transient unit
    job.py place REQUEST     verify files that were brought, and keep them under the digest of their content
    job.py follow REQUEST    tell events and log of a job as they grow, until its end
    job.py cancel REQUEST    end a job; its checkpoints stay
    job.py remove REQUEST    forget a job that has been fetched
    job.py list REQUEST      who computes, and who waits
    job.py work FOLDER       carry a job out (what the unit runs, as the user's own account)
    job.py mend FOLDER       write down how a job ended that was killed (what the unit runs at its end)

A place to compute is one GPU, or the processors. It is taken while the unit holds a lock on its file
(`queue/NAME.lock`), so that no lease outlives its training, whatever dies. Those who wait hold a lock on a ticket; the
first in line has its turn. A job's folder has `job.json` (what it is), `stage/` with `stage.json`, `work/` (kept from
attempt to attempt) and `out/`, around it what a run directory has, and of the present attempt `events-N.jsonl`,
`log-N.txt` and `ended-N.json`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys

from brought import place
from carry import mend, work
from facts import boot, free_port, gpus, machine, memory_bytes
from folders import login, own_folder
from follow import follow
from status import cancel, remove, status
from talk import tell
from turns import overview, queue


def main(words):
    """Do what the command line says."""
    action, argument = words
    if action in ("work", "mend"):
        return {"work": work, "mend": mend}[action](argument)
    request = json.loads(argument)
    if action in ("queue", "follow"):
        return {"queue": queue, "follow": follow}[action](request)
    answers = {"look": look, "place": place, "cancel": cancel, "remove": remove, "list": overview}
    tell(**answers[action](request))
    return 0


def look(request):
    """Return what the host is, who computes here, what was brought before, and how a job stands."""
    user = login()
    home = own_folder(request["base"], user)
    return {
        "user": user,
        "home": home,
        "boot": boot(),
        "machine": machine(),
        "port": free_port(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": memory_bytes(),
        "gpus": gpus(),
        "init": os.path.exists("/run/systemd/system"),
        "root": os.geteuid() == 0,
        "rsync": bool(shutil.which("rsync")),
        "free_bytes": shutil.disk_usage(home).free,
        "inputs": [key for key in request.get("keys", ()) if os.path.isdir(os.path.join(home, "inputs", key))],
        "job": status(os.path.join(home, "jobs", request["id"])) if request.get("id") else None,
    }


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:
        os._exit(0)
