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

import contextlib
import csv
import fcntl
import glob
import hashlib
import json
import os
import pwd
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

POLL_S = 0.5
FOLLOW_S = 0.2
LOOK_S = 3.0
HOLD_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 90
FOREIGN_BYTES = 1 << 30
"""Memory of a GPU from which on somebody computes there who did not queue."""
UNUSED_S = 14 * 86400
"""Inputs that no job has used for so long are removed."""
CHUNK_BYTES = 65536
SECRETS = "/run/largeforge/trainings"
"""In memory, and gone as soon as the job has read it."""


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


def status(folder):
    """Return how a job stands, nothing where there is none."""
    job = loaded(os.path.join(folder, "job.json"))
    if not job:
        return None
    ended = loaded(attempt_file(folder, job, "ended", "json"))
    active = not ended and state(job["unit"]) in ("active", "activating", "deactivating", "reloading")
    if not ended and not active:
        time.sleep(0.5)  # it may have ended just now
        ended = loaded(attempt_file(folder, job, "ended", "json")) or {"code": None, "restarted": job["boot"] != boot()}
    kept = {key: job[key] for key in ("id", "who", "what", "mark", "attempt", "unit", "places", "began")}
    return {**kept, "folder": folder, "active": active, "ended": ended, "checkpoints": checkpoints(folder)}


def checkpoints(folder):
    """Return the steps of the checkpoints that are whole, the last one first."""
    sealed = glob.glob(
        os.path.join(folder, "stage", "work", "checkpoints", "checkpoint-*", "largeforge-checkpoint.json")
    )
    steps = (re.search(r"checkpoint-(\d+)/", path) for path in sealed)
    return sorted((int(step.group(1)) for step in steps if step), reverse=True)


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


def candidates(request):
    """Return the places that would do, taken or not."""
    if not request["gpus"]:
        return ["cpu"]
    names = request.get("gpu_names") or ()
    found = [gpu["uuid"] for gpu in gpus() if not names or gpu["name"] in names]
    return found[: request["limit"]] if request.get("limit") else found


def holder(base, place):
    """Return who computes at a place, nothing where it is free."""
    path = os.path.join(base, "queue", place)
    if is_locked(path + ".lock"):
        return {"place": place, **(loaded(path + ".json") or {"who": "somebody", "what": "", "since": 0})}
    foreign = [gpu for gpu in gpus() if gpu["uuid"] == place and gpu["used_bytes"] > FOREIGN_BYTES]
    if foreign:
        gib = foreign[0]["used_bytes"] / (1 << 30)
        return {"place": place, "who": "another program", "what": "%.0f GiB of its memory" % gib, "since": 0}
    return None


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


def is_locked(path):
    """Tell whether somebody holds a lock on a file."""
    try:
        with open(path, "rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def begin(request, order):
    """Start the job as a unit that takes the places itself, and say how that went."""
    base, user = request["base"], login()
    home = own_folder(base, user)
    folder = os.path.join(home, "jobs", request["id"])
    with open(os.path.join(base, "queue", ".starting"), "w", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        free = [place for place in candidates(request) if not holder(base, place)][: max(1, request["gpus"])]
        if len(free) < max(1, request["gpus"]):
            tell(kind="refused", reason="the place was taken by another program meanwhile")
            return 1
        job = prepared(folder, request, order, places=free, user=user)
        for place in free:
            info = {"id": job["id"], "who": job["who"], "what": job["what"], "since": job["began"]}
            open(os.path.join(base, "queue", place + ".lock"), "a", encoding="utf-8").close()
            write(os.path.join(base, "queue", place + ".json"), json.dumps(info))
        code, said = run(*unit_command(job, folder))
        if code:
            tell(kind="refused", reason="systemd-run: %s" % said)
            return 1
        reason = held(folder, job)
    if reason:
        tell(kind="refused", reason=reason)
        return 1
    sweep_inputs(home)
    tell(kind="started", folder=folder, attempt=job["attempt"], unit=job["unit"], places=job["places"])
    return 0


def prepared(folder, request, order, *, places, user):
    """Write a job down and return it; its checkpoints are kept when it is the same as before."""
    account = pwd.getpwnam(user)
    before = loaded(os.path.join(folder, "job.json")) or {}
    if before and before["mark"] != order["mark"]:
        shutil.rmtree(os.path.join(folder, "stage", "work"), ignore_errors=True)
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
        os.makedirs(SECRETS, mode=0o711, exist_ok=True)
        path = secret_file(job)
        with contextlib.suppress(OSError):
            os.unlink(path)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            os.fchown(stream.fileno(), account.pw_uid, account.pw_gid)
            json.dump(order["secrets"], stream)
    return job


def own(folder, account):
    """Give what was written to its user; checkpoints are theirs already."""
    for top, folders, names in os.walk(folder):
        if os.path.basename(top) == "work":
            folders.clear()
        for path in (top, *(os.path.join(top, name) for name in (*folders, *names))):
            os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


def unit_command(job, folder):
    """Return the command that starts the unit of a job."""
    me = os.path.abspath(__file__)
    properties = {
        "Type": "exec",
        "WorkingDirectory": folder,
        "KillMode": "mixed",
        "TimeoutStopSec": "%ds" % STOP_TIMEOUT_S,
        "OOMPolicy": "stop",
        "ExecStopPost": "%s %s mend %s" % (sys.executable, me, folder),
        "NoNewPrivileges": "yes",
        "ProtectSystem": "full",
        "ProtectKernelTunables": "yes",
        "ProtectKernelModules": "yes",
        "ProtectControlGroups": "yes",
        "RestrictSUIDSGID": "yes",
        "LockPersonality": "yes",
        "LimitMEMLOCK": "infinity",
        "LimitNOFILE": "65536",
        "TasksMax": "infinity",
    }
    words = ["systemd-run", "--quiet", "--collect", "--unit", job["unit"], "--uid", job["user"]]
    words += ["--description", "LargeForge: %s for %s" % (job["what"], job["who"])]
    for name, value in properties.items():
        words += ["--property", "%s=%s" % (name, value)]
    return [*words, "--", sys.executable, me, "work", folder]


def held(folder, job):
    """Wait until a unit has its places; return why it has not."""
    deadline = time.monotonic() + HOLD_TIMEOUT_S
    while time.monotonic() < deadline:
        if os.path.exists(attempt_file(folder, job, "events", "jsonl")):
            return ""
        ended = loaded(attempt_file(folder, job, "ended", "json"))
        if ended:
            return ended.get("error") or "it ended at once"
        if state(job["unit"]) in ("failed", "inactive", ""):
            time.sleep(0.3)
            ended = loaded(attempt_file(folder, job, "ended", "json")) or {}
            return ended.get("error") or "its unit ended at once: journalctl --unit %s says why" % job["unit"]
        time.sleep(0.05)
    return "its unit did not get the places in %.0f s" % HOLD_TIMEOUT_S


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
        asked = 0
        while process.poll() is None:
            if len(stops) > asked:
                asked = len(stops)
                with contextlib.suppress(OSError):
                    process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
    code = process.returncode
    cancelled = os.path.exists(attempt_file(folder, job, "cancelled", "txt"))
    ended = {"code": code, "at": time.time(), "cancelled": cancelled, "stopped": bool(stops)}
    if code == -signal.SIGKILL and memory_kills() > kills:
        ended["memory"] = True
    if code == 0:
        ended["files"] = hashes(os.path.join(folder, "stage", "out"))
    write(attempt_file(folder, job, "ended", "json"), json.dumps(ended))
    return 0 if code == 0 else 1


def take(path):
    """Return a descriptor that holds the lock of a place as long as this process lives, nothing if another has it."""
    descriptor = os.open(path, os.O_RDONLY)
    for _ in range(50):  # those who only look hold it for a moment
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            time.sleep(0.1)
    return None


def secrets_of(job):
    """Return the secrets of a job, and remove them."""
    path = secret_file(job)
    found = loaded(path) or {}
    with contextlib.suppress(OSError):
        os.unlink(path)
    return found


def secret_file(job):
    """Return where the secrets of a job lie until it has read them."""
    return os.path.join(SECRETS, job["id"])


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


def place(request):
    """Verify files that were brought and keep them; those that are not what was sent are removed."""
    incoming = os.path.join(request["home"], "incoming", request["key"])
    kept = os.path.join(request["home"], "inputs", request["key"])
    if os.path.isdir(kept):
        os.utime(kept)
        return {"kept": True}
    found = hashes(incoming)
    wrong = sorted(name for name in {**request["files"], **found} if found.get(name) != request["files"].get(name))
    if wrong:
        shutil.rmtree(incoming, ignore_errors=True)
        return {"kept": False, "wrong": wrong[:5]}
    os.rename(incoming, kept)
    os.utime(kept)
    return {"kept": True}


def sweep_inputs(home):
    """Remove inputs that were used last long ago."""
    for folder in glob.glob(os.path.join(home, "inputs", "*")) + glob.glob(os.path.join(home, "incoming", "*")):
        if time.time() - os.stat(folder).st_mtime > UNUSED_S:
            shutil.rmtree(folder, ignore_errors=True)


def cancel(request):
    """End a job; it saves a checkpoint first, if it can."""
    folder = os.path.join(own_folder(request["base"], login()), "jobs", request["id"])
    before = status(folder)
    if before and before["active"]:
        write(attempt_file(folder, before, "cancelled", "txt"), "")
        run("systemctl", "stop", before["unit"])
    return {"before": before, "after": status(folder)}


def remove(request):
    """Forget a job that does not run."""
    folder = os.path.join(own_folder(request["base"], login()), "jobs", request["id"])
    found = status(folder)
    if found and not found["active"]:
        shutil.rmtree(folder, ignore_errors=True)
    return {"removed": bool(found and not found["active"])}


def overview(request):
    """Return each place with who computes there, and those who wait."""
    base = request["base"]
    known = {gpu["uuid"]: gpu["name"] for gpu in gpus()}
    places = [{"place": uuid, "name": "GPU %d, %s" % (index, name)} for index, (uuid, name) in enumerate(known.items())]
    found = [{**one, "holder": holder(base, one["place"])} for one in [*places, {"place": "cpu", "name": "processors"}]]
    return {"places": found, "waiting": waiting(base)}


class Leash:
    """The input, as long as somebody is at its other end."""

    def __init__(self, silence_s):
        self.silence_s, self.heard, self.buffer = silence_s, time.monotonic(), b""

    def lines(self, timeout_s):
        """Return the lines that come within a time; ends this process when nobody is there any more."""
        if select.select([0], [], [], timeout_s)[0]:
            data = os.read(0, 1 << 20)
            if not data:
                raise SystemExit(0)
            self.heard = time.monotonic()
            *lines, self.buffer = (self.buffer + data).split(b"\n")
            return [line.decode() for line in lines]
        if time.monotonic() - self.heard > self.silence_s:
            raise SystemExit(0)
        return []


def gpus():
    """Return the NVIDIA GPUs of this host."""
    query = "--query-gpu=uuid,name,memory.total,memory.used"
    try:
        said = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader,nounits"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            timeout=20,
        ).stdout.decode()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in row] for row in csv.reader(said.splitlines())]
    return [
        {"uuid": row[0], "name": row[1], "memory_bytes": mebibytes(row[2]), "used_bytes": mebibytes(row[3])}
        for row in rows
        if len(row) == 4
    ]


def mebibytes(text):
    """Return a number of MiB as bytes; a driver writes `[N/A]` where memory is shared with the processors."""
    return int(text) << 20 if text.isdigit() else 0


def memory_bytes():
    """Return the memory of this host."""
    with open("/proc/meminfo", encoding="utf-8") as stream:
        return int(stream.readline().split()[1]) * 1024


def memory_kills():
    """Return how many processes the kernel has killed for want of memory."""
    with open("/proc/vmstat", encoding="utf-8") as stream:
        return sum(int(line.split()[1]) for line in stream if line.startswith("oom_kill "))


def hashes(folder):
    """Return sha256 and size of each file below a folder."""
    found = {}
    for top, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(top, name)
            digest = hashlib.sha256()
            with open(path, "rb") as stream:
                for part in iter(lambda: stream.read(1 << 20), b""):
                    digest.update(part)
            found[os.path.relpath(path, folder)] = {"sha256": digest.hexdigest(), "size": os.path.getsize(path)}
    return found


def attempt_file(folder, job, name, suffix):
    """Return a file of the present attempt of a job."""
    return os.path.join(folder, "%s-%d.%s" % (name, job["attempt"], suffix))


def boot():
    """Return what is another one after each start of this host."""
    with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as stream:
        return stream.read().strip()


def machine():
    """Return what tells this host from all others, whatever it is called."""
    try:
        with open("/etc/machine-id", encoding="utf-8") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def free_port():
    """Return a port at which nobody listens here."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def loaded(path):
    """Return what a JSON file says, nothing where there is none."""
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return None


def write(path, text):
    """Write a file so that readers see all of it or none, also after the power fails."""
    aside = "%s.new" % path
    with open(aside, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(aside, path)


def state(unit):
    """Return what systemd says of a unit in one word."""
    return run("systemctl", "is-active", unit)[1]


def run(*command):
    """Run a command; return its exit code and what it said."""
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return ended.returncode, ended.stdout.decode("utf-8", "replace").strip()


def tell(**fields):
    """Print one line."""
    print(json.dumps(fields), flush=True)


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


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:
        os._exit(0)
