"""Run one stage on hosts in the place of its process here: `python -m largeforge.onhosts.proxy STAGE_FOLDER`.

Told to end, it lets go of the stage, which goes on; started again, it finds it and follows. It ends with success only
when the artifact lies here and every file has the hash that it had there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge import artifacts, events
from largeforge.deploy import transfer
from largeforge.deploy.connection import reaches
from largeforge.errors import DeployError, LargeForgeError
from largeforge.onhosts import ends, inputs, place
from largeforge.onhosts.following import Follower, hand_on
from largeforge.onhosts.host import OnHost
from largeforge.onhosts.place import Seat
from largeforge.onhosts.starting import Start
from largeforge.onhosts.task import Task
from largeforge.recipe.schema import Registry
from largeforge.signals import leave

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import IO

    from largeforge.onhosts.following import Ending
    from largeforge.onhosts.inputs import Bundle

DETACHED = 130
_RETRY_S = 3.0


class Detached(BaseException):
    """We are told to end; the stage goes on."""


class Proxy:
    """One stage on its way to a host and back."""

    def __init__(self, folder: Path, out: IO[str]):
        self.folder, self.out = folder, out
        self.task = Task.read(folder)
        self.spec: dict[str, Any] = json.loads((folder / "stage.json").read_text(encoding="utf-8"))
        self.inventory = self.task.hosts_file
        self.name = place.job_name(folder, recipe=self.task.recipe, stage=self.task.stage)
        self.hosts: dict[str, OnHost] = {}
        self.running_on = ""
        self.seats: dict[str, Seat] = {}
        self._keeping = threading.Lock()

    def run(self) -> int:
        """Bring the stage to its end; return the exit code."""
        with reaches(self.inventory, list(self.task.hosts)) as reached:
            self.hosts = {name: OnHost(reach) for name, reach in reached.items()}
            bundle = inputs.bundle(self.spec, self._resolved)
            mark = artifacts.digest([self.task.fingerprint, sorted(bundle.inputs), self.task.launcher])
            seats = place.read(self.folder)
            job = self._found(seats[0]) if seats else {}
            is_same = bool(job) and job["mark"] == mark
            if is_same and self._is_to_follow(job) and self._is_whole(seats, job):
                names = ", ".join(seat.host for seat in seats)
                have = "have" if len(seats) > 1 else "has"
                self._note(f"{names} {have} this stage: following it from where it was left")
                if seats[0].attempt != job["attempt"]:
                    seats = [Seat(seats[0].host, self.name, job["attempt"], folder=job["folder"])]
            else:
                before = seats[0].host if is_same and job["checkpoints"] else ""
                seats = self._begun(bundle, mark, before)
            return self._followed(seats, bundle)

    def _is_to_follow(self, job: Mapping[str, Any]) -> bool:
        """Whether a job runs, or has ended well and waits to be fetched."""
        return bool(job["active"] or job["ended"].get("code") == 0)

    def _is_whole(self, seats: list[Seat], job: Mapping[str, Any]) -> bool:
        """Whether it was started on all of its hosts: a controller may have died between them."""
        return not self.task.takes_all or (seats[0].attempt == job["attempt"] and all(seat.attempt for seat in seats))

    def _found(self, seat: Seat) -> dict[str, Any]:
        """Look at the host where the stage was before; it is waited for, since its checkpoints are there."""
        host = self.hosts.get(seat.host)
        if host is None:
            return {}
        began, told = time.monotonic(), False
        while True:
            try:
                host.install()
                return host.look(self.name)["job"] or {}
            except DeployError as error:
                if time.monotonic() - began > self.inventory.queue.patience_s:
                    hint = f"python -m largeforge cancel --forget {_shown(self.folder.parent)} gives up what is there"
                    raise DeployError(
                        f"{error}; this stage was begun on {host.name}, with its checkpoints. {hint}"
                    ) from None
                if not told:
                    told = True
                    self._note(f"{error}; this stage was begun on {host.name}, which is waited for")
                time.sleep(_RETRY_S)

    def _begun(self, bundle: Bundle, mark: str, before: str) -> list[Seat]:
        start = Start(
            self.task, self.spec, self.hosts, bundle, name=self.name, folder=self.folder, mark=mark, note=self._note
        )
        try:
            return start.run(before=before)
        finally:
            self.running_on = start.began_on

    def _followed(self, seats: list[Seat], bundle: Bundle) -> int:
        """Follow all hosts to their end, and bring the artifact home from the first."""
        self.seats = {seat.host: seat for seat in seats}
        self.running_on = ", ".join(self.seats)
        found = ends.of_all([self._follower(seat, bundle) for seat in seats])
        self.running_on = ""
        first = seats[0]
        end = found[first.host]
        if end is None or not ends.has_succeeded(end) or end.last.get("kind") != "result":
            return self._failed(found)
        self._bring_home(self.hosts[first.host], first.folder, end.ended["files"])
        hand_on(self.out, json.loads(bundle.at_home(events.encode(end.last), first.home)))
        for name in self.seats:
            self._removed(self.hosts[name], must=name == first.host)
        place.forget(self.folder)
        return 0

    def _follower(self, seat: Seat, bundle: Bundle) -> Follower:
        return Follower(
            self.hosts[seat.host], seat.folder, self.folder, seat, self.out, self._note,
            lambda text: bundle.at_home(text, seat.home), self.inventory.queue.patience_s, self._keep,
            f"[{seat.host}] " if len(self.seats) > 1 else "",
        )  # fmt: skip

    def _keep(self, seat: Seat) -> None:
        """Keep how far a host was followed."""
        with self._keeping:
            self.seats[seat.host] = seat
            place.write(self.folder, self.seats.values())

    def _removed(self, host: OnHost, *, must: bool) -> None:
        """Let a host forget what has come home."""
        try:
            host.ask("remove", base=host.base, id=self.name)
        except DeployError as error:
            if must:
                raise
            self._note(f"{error}; what is left there of this stage is removed by its next attempt")

    def _bring_home(self, host: OnHost, folder: str, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Fetch the artifact and compare every file with what it was there.

        Raises DeployError when one is not the same.
        """
        out = Path(self.spec["out"])
        began = time.monotonic()
        transfer.fetch(f"{folder}/stage/out", out, host.reach, report=self._note)
        found = artifacts.hash_folder(out)
        wrong = sorted(name for name in {*found, *files} if found.get(name) != files.get(name))
        if wrong:
            raise DeployError(f"{host.name}: what came home is not what was made there: {', '.join(wrong[:5])}")
        size = sum(int(entry["size"]) for entry in files.values())
        seconds = time.monotonic() - began
        self._note(
            f"{len(files)} files ({size / 2**20:.1f} MiB) came home from {host.name} and verify, {seconds:.0f} s"
        )

    def _failed(self, found: Mapping[str, Ending | None]) -> int:
        """Say what happened to the stage; return the exit code."""
        why = ends.why(found)
        text, (first, end) = why.text, next(iter(found.items()))
        if end and end.checkpoints:
            text += f"; checkpoint-{end.checkpoints[0]} is kept on {first}: the same command continues from it"
        self._emit("failed", error=text, exit_code=why.exit_code, reason=why.reason, memory_gib=why.memory_gib)
        return why.exit_code or 1

    def _resolved(self, reference: str) -> str:
        from largeforge.stages.models import resolve

        registry = self.spec["config"].get("registry")
        found = resolve(reference, registry=Registry(**registry) if registry else Registry(), inputs={})
        return str(Path(found.location).absolute())

    def _note(self, text: str) -> None:
        self._emit("note", text=text)

    def _emit(self, kind: str, **fields: Any) -> None:
        hand_on(self.out, {"time": round(time.time(), 3), "stage": self.task.stage, "kind": kind, **fields})


def main(arguments: list[str]) -> int:
    """Run the stage of a folder; return the exit code."""
    stream = events.take_stdout()
    signal.signal(signal.SIGTERM, _told_to_end)
    folder = Path(arguments[0])
    proxy = Proxy(folder, stream)
    try:
        return proxy.run()
    except (Detached, KeyboardInterrupt):
        if proxy.running_on:
            run = _shown(folder.parent)
            proxy._note(
                f"goes on at {proxy.running_on} without us. Follow it: python -m largeforge attach {run}   "
                f"End it: python -m largeforge cancel {run}"
            )
        return DETACHED
    except LargeForgeError as error:
        proxy._emit("failed", error=str(error), exit_code=error.exit_code, reason="")
        return error.exit_code


def _shown(path: Path) -> str:
    """Return a path as a person in the working directory would type it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _told_to_end(number: int, frame: object) -> None:
    raise Detached


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
