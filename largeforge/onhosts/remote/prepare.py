"""The folder of a job before its unit begins: what it is, its files, links and secrets, all its user's own."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import pwd
import shutil
import time

from disk import loaded, write
from facts import boot
from folders import SECRETS, secret_file


def prepared(folder, request, order, *, places, user):
    """Write a job down and return it; its checkpoints are kept when it is the same as before."""
    account = pwd.getpwnam(user)
    before = loaded(os.path.join(folder, "job.json")) or {}
    if before and before["mark"] != order["mark"]:
        shutil.rmtree(os.path.join(folder, "stage", "work"), ignore_errors=True)
    lay_out(folder, order)
    visible = {"CUDA_VISIBLE_DEVICES": ",".join(places)} if request["gpus"] else {}
    job = {
        "id": request["id"],
        "who": request["who"],
        "what": request["what"],
        "mark": order["mark"],
        "attempt": before.get("attempt", 0) + 1,
        "unit": "largeforge-training-%s.service" % request["id"],
        "places": places,
        "queue": os.path.join(request["base"], "queue"),
        "user": user,
        "boot": boot(),
        "began": time.time(),
        "argv": order["argv"],
        "environment": {**order["environment"], **visible},
    }
    for old in glob.glob(os.path.join(folder, "*-*.*")):
        os.unlink(old)
    write(os.path.join(folder, "stage", "stage.json"), json.dumps(order["stage"], indent=2, ensure_ascii=False))
    write(os.path.join(folder, "job.json"), json.dumps(job))
    own(folder, account)
    if order.get("secrets"):
        lend(order["secrets"], secret_file(job), account)
    return job


def lay_out(folder, order):
    """Make the folders of an attempt with the files and links that its stage reads."""
    for name in ("stage/out", "inputs"):
        shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
    for name in ("", "stage", "stage/work", "stage/out", "inputs"):
        os.makedirs(os.path.join(folder, name), mode=0o700, exist_ok=True)
    for name, text in order["files"].items():
        os.makedirs(os.path.dirname(os.path.join(folder, name)), mode=0o700, exist_ok=True)
        write(os.path.join(folder, name), text)
    for name, target in order["links"].items():
        os.makedirs(os.path.dirname(os.path.join(folder, name)), mode=0o700, exist_ok=True)
        os.symlink(target, os.path.join(folder, name))


def own(folder, account):
    """Give what was written to its user; checkpoints are theirs already."""
    for top, folders, names in os.walk(folder):
        if os.path.basename(top) == "work":
            folders.clear()
        for path in (top, *(os.path.join(top, name) for name in (*folders, *names))):
            os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


def lend(secrets, path, account):
    """Leave secrets for the unit to take, readable by its user alone."""
    os.makedirs(SECRETS, mode=0o711, exist_ok=True)
    with contextlib.suppress(OSError):
        os.unlink(path)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        os.fchown(stream.fileno(), account.pw_uid, account.pw_gid)
        json.dump(secrets, stream)
