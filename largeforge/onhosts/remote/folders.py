"""Where things are: the folder of a user's trainings, the files of a job's attempt, its secrets."""

from __future__ import annotations

import os
import pwd

SECRETS = "/run/largeforge/trainings"
"""In memory, and gone as soon as the job has read it."""


def login():
    """Return the account that connected."""
    return os.environ.get("SUDO_USER") or pwd.getpwuid(os.geteuid()).pw_name


def own_folder(base, user):
    """Return the folder of a user's trainings, made if it is not there; nobody else reads it."""
    home = os.path.join(base, user)
    os.makedirs(os.path.join(base, "queue", "waiting"), mode=0o755, exist_ok=True)
    account = pwd.getpwnam(user)
    for folder in (home, *(os.path.join(home, name) for name in ("jobs", "inputs", "incoming"))):
        if not os.path.isdir(folder):
            os.mkdir(folder, 0o700)
            os.chown(folder, account.pw_uid, account.pw_gid)
    return home


def attempt_file(folder, job, name, suffix):
    """Return a file of the present attempt of a job."""
    return os.path.join(folder, "%s-%d.%s" % (name, job["attempt"], suffix))


def secret_file(job):
    """Return where the secrets of a job lie until it has read them."""
    return os.path.join(SECRETS, job["id"])
