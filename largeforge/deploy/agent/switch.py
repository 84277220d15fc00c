"""Put a release of a service in the place of another on this host, or leave everything as it was.

    switch.py begin ORDER      start the work as a unit of its own, and tell what it tells until its end
    switch.py follow ID        tell what one tells that is or was running
    switch.py work FILE        do it (what the unit runs)
    switch.py mend FILE        put right what a work that was killed has left (what the unit runs at its end)
    switch.py retire ORDER     stop a release that is asked no more

The work is done by this host alone: whoever ordered it may lose the connection or die. A release is current when the
link `current` of its service points to it, and a canary when `canary` does; the units of other releases refuse to start
unless they are on trial, and the mark of a trial is in /run, so that a host that loses power comes up again with what
was current. Links change only after the new release has answered and stayed up for a while. An order is a JSON
object: `id`, `deployment`, `service`, `root` (of the deployment), `from` and `to` (digests; `from` may be empty),
`units` (digest to name), `mode`, `watch_s`, `log`, `vacates` (service, key and unit of releases of other services that
must stop first, as there is no room beside them, and that go with the old one).

Modes: `fixed` stops the old release before the new one starts; `blue_green` leaves it running, to be retired later;
`handover` leaves it running while the new one starts and stops it at the end (both have the same socket);
`canary` leaves it running and current: the new one is its canary.
"""

from __future__ import annotations

import glob
import json
import os
import re
import subprocess
import sys
import time

from ask import ask

POLL_S = 0.2
FOLLOW_S = 0.05
KEPT_REPORTS = 20
ENDINGS = ("committed", "restored", "lost", "refused")


class Refused(Exception):
    """The new release is not fit to serve."""


class Work:
    """One order being carried out."""

    def __init__(self, order):
        self.order = order
        self.old, self.new = order["from"], order["to"]
        self.folder = os.path.join(order["root"], "services", order["service"])
        self.started = time.monotonic()
        others = [one["unit"] for one in order.get("vacates", ())]
        replaced = [self.unit(self.old)] if self.old and self.old != self.new else []
        self.stopped = [unit for unit in replaced + others if is_active(unit) or unit in stopped_by(order)]
        """Units of what served before, which must stop or be there again at the end."""

    def unit(self, digest):
        """Return the name of a release's unit."""
        return self.order["units"][digest]

    def run(self):
        """Prove the new release and make it current, or bring the old one back; return an exit code."""
        try:
            self.prove()
        except Refused as refusal:
            return self.restore(str(refusal))
        self.commit()
        return 0

    def prove(self):
        """Start the new release and watch it; raises Refused when it is not fit."""
        for unit in self.stopped if self.order["mode"] == "fixed" else ():
            self.say("stopping", unit=unit)
            systemctl("stop", unit)
        mark(self.order, self.new)
        log_size = size(self.order["log"])
        unit = self.unit(self.new)
        self.say("starting", unit=unit)
        began = time.monotonic()
        systemctl("enable", "--quiet", unit)
        systemctl("reset-failed", unit)
        action = "restart" if self.old == self.new else "start"
        code, said = systemctl(action, unit)
        if code or not is_active(unit):
            raise Refused(
                "%s did not start: %s" % (unit, last_words(self.order["log"], log_size) or said or state(unit))
            )
        took = round(time.monotonic() - began, 2)
        restarts = number_of_restarts(unit)
        self.probe()
        self.say("ready", seconds=took, down_s=self.down_s() if self.order["mode"] == "fixed" else 0.0)
        write(os.path.join(self.folder, "releases", self.new, "started_s"), "%s\n" % took)
        self.watch(unit, restarts, log_size)

    def probe(self):
        """Ask the new release what it must be able to answer; raises Refused."""
        for question in self.order.get("probes", ()):
            place = {**place_of(self.folder, self.new), **question.get("place", {})}
            status, body = ask(place, "POST", question["path"], question["body"], timeout_s=question["timeout_s"])
            if status != 200:
                raise Refused("it does not answer %s: %s %s" % (question["path"], status or "", body))
            for key, wanted in question.get("expected", {}).items():
                found = body.get(key) if isinstance(body, dict) else None
                if found != wanted:
                    raise Refused(
                        "its answer to %s is wrong: %s is %s, and must be %s"
                        % (question["path"], key, shortened(found), shortened(wanted))
                    )

    def watch(self, unit, restarts, log_size):
        """See that the new release stays up; raises Refused when it does not."""
        until = time.monotonic() + self.order["watch_s"]
        while time.monotonic() < until:
            time.sleep(POLL_S)
            if not is_active(unit) or number_of_restarts(unit) != restarts:
                after = self.order["watch_s"] - (until - time.monotonic())
                raise Refused(
                    "it ended %.0f s after it was ready: %s" % (after, last_words(self.order["log"], log_size))
                )

    def commit(self):
        """Make the new release the current one, or the canary of that."""
        if self.order["mode"] == "canary":
            point(self.folder, self.new, "canary")
            unmark(self.order, self.new)
            self.say("committed")
            return
        point(self.folder, self.new)
        unpoint(self.folder, self.new, "canary")
        unmark(self.order, self.new)
        if self.order["mode"] == "handover" and self.stopped:
            systemctl("stop", "--no-block", self.unit(self.old))
        if self.old and self.old != self.new:
            systemctl("disable", "--quiet", self.unit(self.old))
        for gone in self.order.get("vacates", ()):
            systemctl("disable", "--quiet", gone["unit"])
            unpoint(os.path.join(self.order["root"], "services", gone["service"]), gone["key"], "current")
        self.say("committed")

    def restore(self, reason):
        """Take the new release away and bring the old one back; returns an exit code."""
        self.say("restoring", reason=reason)
        if self.old != self.new:
            systemctl("stop", self.unit(self.new))
            systemctl("disable", "--quiet", self.unit(self.new))
        unmark(self.order, self.new)
        if not self.stopped:
            self.say("restored" if self.old else "refused", reason=reason, served=False)
            return 1
        lost = []
        for unit in self.stopped:
            if is_active(unit):
                continue
            systemctl("reset-failed", unit)
            code, said = systemctl("start", unit)
            if code or not is_active(unit):
                lost.append("%s does not start again: %s" % (unit, said))
        if lost:
            self.say("lost", reason="%s; and the old release %s" % (reason, "; ".join(lost)))
            return 1
        self.say("restored", reason=reason, served=True, down_s=self.down_s())
        return 1

    def down_s(self):
        """Return the seconds since the first was stopped, 0 where none was."""
        stopped = [entry["at"] for entry in reported(self.order) if entry["kind"] == "stopping"]
        return round(time.time() - stopped[0], 2) if stopped else 0.0

    def say(self, kind, **fields):
        """Add a line to the report."""
        line = json.dumps({"kind": kind, "service": self.order["service"], "at": round(time.time(), 3), **fields})
        with open(report_of(self.order), "a", encoding="utf-8") as stream:
            stream.write(line + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def begin(order):
    """Start the work as a transient unit and follow it; ordered once more, it is only followed."""
    if os.path.exists(report_of(order)):
        return follow(order)
    os.makedirs(run_folder(order), exist_ok=True)
    for old in sorted(glob.glob(os.path.join(run_folder(order), "*.jsonl")), key=os.path.getmtime)[:-KEPT_REPORTS]:
        os.unlink(old)
        if os.path.exists(old[:-1]):
            os.unlink(old[:-1])
    path = report_of(order)[:-1]  # .json beside .jsonl
    write(path, json.dumps(order))
    open(report_of(order), "a", encoding="utf-8").close()
    me = os.path.abspath(__file__)
    unit = work_unit(order)
    code, said = run(
        "systemd-run",
        "--quiet",
        "--collect",
        "--unit",
        unit,
        "--property",
        "Type=exec",
        "--property",
        "ExecStopPost=%s %s mend %s" % (sys.executable, me, path),
        "--",
        sys.executable,
        me,
        "work",
        path,
    )
    if code:
        print(
            json.dumps({"kind": "refused", "service": order["service"], "reason": "systemd-run: %s" % said}), flush=True
        )
        return 1
    return follow(order)


def follow(order):
    """Print the report as it grows, until its end; return an exit code."""
    place = 0
    quiet = False
    while True:
        with open(report_of(order), encoding="utf-8") as stream:
            stream.seek(place)
            lines = stream.read()
        whole = lines.rpartition("\n")[0]
        for line in whole.splitlines():
            print(line, flush=True)
            if json.loads(line)["kind"] in ENDINGS:
                return 0 if json.loads(line)["kind"] == "committed" else 1
        place += len((whole + "\n").encode()) if whole else 0
        if quiet and not whole:
            print(
                json.dumps({"kind": "lost", "service": order["service"], "reason": "the switch ended without a word"}),
                flush=True,
            )
            return 1
        quiet = not is_busy(work_unit(order))
        print("", flush=True)  # notices that nobody reads any more
        time.sleep(FOLLOW_S if not quiet else 1.0)


def mend(order):
    """Finish what a work has left unfinished, in the direction that is right; nothing after one that ended itself."""
    if any(entry["kind"] in ENDINGS for entry in reported(order)):
        return 0
    work = Work(order)
    link = "canary" if order["mode"] == "canary" else "current"
    if current(work.folder, link) == work.new and work.old != work.new:
        work.commit()
        return 0
    return work.restore("the switch was killed")


def retire(order):
    """Stop a release that is not asked any more, once it has nothing to answer, and take its trial from it."""
    folder, key = os.path.join(order["root"], "services", order["service"]), order["to"]
    unit = order["units"][key]
    unmark(order, key)
    unpoint(folder, key, "canary")
    until = time.monotonic() + order["idle_timeout_s"]
    while is_active(unit) and time.monotonic() < until and is_answering(folder, key):
        time.sleep(POLL_S)
    systemctl("stop", unit)
    systemctl("disable", "--quiet", unit)
    unpoint(folder, key, "current")
    print(json.dumps({"kind": "retired", "service": order["service"]}), flush=True)
    return 0


def is_answering(folder, key):
    """Tell whether a server has requests to answer, from its own metrics."""
    status, text = ask(place_of(folder, key), "GET", "/metrics", most=None)
    counts = re.findall(r"^vllm:num_requests_(?:running|waiting)(?:{[^}]*})? ([0-9.e+]+)", str(text), re.MULTILINE)
    return status == 200 and any(float(count) > 0 for count in counts)


def place_of(folder, key):
    """Return where a release of a model server is asked."""
    with open(os.path.join(folder, "releases", key, "service.json"), encoding="utf-8") as stream:
        return {**json.load(stream)["place"], "port": port_of(folder, key)}


def point(folder, digest, link="current"):
    """Let a link point to a release, at once."""
    aside = os.path.join(folder, ".current.%d" % os.getpid())
    os.symlink(os.path.join("releases", digest), aside)
    os.replace(aside, os.path.join(folder, link))
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def unpoint(folder, digest, link):
    """Take a link away that points to a release."""
    if current(folder, link) == digest:
        os.unlink(os.path.join(folder, link))


def current(folder, link="current"):
    """Return the digest of the release that a link points to, empty where there is none."""
    try:
        return os.path.basename(os.readlink(os.path.join(folder, link)))
    except OSError:
        return ""


def port_of(folder, digest):
    """Return the port of a release."""
    with open(os.path.join(folder, "releases", digest, "port"), encoding="utf-8") as stream:
        return int(stream.read())


def run_folder(order):
    """Return the folder of marks and reports, gone when the host restarts."""
    return os.path.join("/run/largeforge", order["deployment"], order["service"])


def report_of(order):
    """Return the file that tells what happens."""
    return os.path.join(run_folder(order), "%s.jsonl" % order["id"])


def work_unit(order):
    """Return the name of the unit that does the work; there is one at a time for a service."""
    return "largeforge-%s-%s-switch.service" % (order["deployment"], order["service"])


def stopped_by(order):
    """Return the units that this work has stopped, or was about to."""
    return [entry["unit"] for entry in reported(order) if entry["kind"] == "stopping"]


def reported(order):
    """Return what was told so far."""
    try:
        with open(report_of(order), encoding="utf-8") as stream:
            return [json.loads(line) for line in stream if line.endswith("\n")]
    except OSError:
        return []


def mark(order, digest):
    """Allow a release to start that is not current."""
    os.makedirs(run_folder(order), exist_ok=True)
    write(os.path.join(run_folder(order), "trial-%s" % digest), "")


def unmark(order, digest):
    """Take that permission back."""
    path = os.path.join(run_folder(order), "trial-%s" % digest)
    if os.path.exists(path):
        os.unlink(path)


def write(path, text):
    """Write a file so that readers see all of it or none."""
    aside = "%s.new" % path
    with open(aside, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.replace(aside, path)


def is_active(unit):
    """Tell whether a unit is up."""
    return state(unit) == "active"


def is_busy(unit):
    """Tell whether a unit is up, or on its way up or down."""
    return state(unit) in ("active", "activating", "deactivating", "reloading")


def state(unit):
    """Return what systemd says of a unit in one word."""
    return run("systemctl", "is-active", unit)[1]


def number_of_restarts(unit):
    """Return how often systemd has started a unit again by itself."""
    return run("systemctl", "show", "--property=NRestarts", "--value", unit)[1]


def systemctl(*words):
    """Run systemctl; return its exit code and what it said."""
    return run("systemctl", *words)


def run(*command):
    """Run a command; return its exit code and what it said."""
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return ended.returncode, ended.stdout.decode("utf-8", "replace").strip()


def size(path):
    """Return the size of a file, 0 where there is none."""
    return os.path.getsize(path) if os.path.exists(path) else 0


def last_words(path, since):
    """Return the errors at the end of what a log has got since a place in it, or its last lines."""
    if not os.path.exists(path):
        return ""
    with open(path, "rb") as stream:
        stream.seek(max(since, size(path) - 65536) if size(path) >= since else 0)
        lines = [line.strip() for line in stream.read().decode("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line or "error:" in line]
    return " / ".join((errors or lines)[-3:])[-600:]


def shortened(value):
    """Return a value as text for a message."""
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


def main(words):
    """Do what the command line says."""
    action, argument = words
    if action in ("begin", "follow", "retire"):
        return {"begin": begin, "follow": follow, "retire": retire}[action](json.loads(argument))
    with open(argument, encoding="utf-8") as stream:
        order = json.load(stream)
    return mend(order) if action == "mend" else Work(order).run()


if __name__ == "__main__":
    os.umask(0o022)  # what it writes, services read
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:
        os._exit(0)
