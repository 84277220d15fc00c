"""Run one stage on a host in the place of its process here: `python -m largeforge.onhosts.proxy STAGE_FOLDER`.

Told to end, it lets go of the stage, which goes on; started again, it finds it and follows. It ends with success only
when the artifact lies here and every file has the hash that it had there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge import artifacts, events
from largeforge.cluster.nodes import PASSED_ON
from largeforge.deploy import shell, transfer
from largeforge.deploy.connection import reaches
from largeforge.errors import DeployError, LargeForgeError
from largeforge.onhosts import choice, inputs, place, python
from largeforge.onhosts.following import Follower, hand_on
from largeforge.onhosts.host import OnHost
from largeforge.onhosts.line import Line
from largeforge.onhosts.place import Seat
from largeforge.onhosts.task import Task
from largeforge.recipe import extensions, launching
from largeforge.recipe.schema import Registry
from largeforge.secrets import WITHHELD
from largeforge.signals import leave

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import IO

    from largeforge.onhosts.following import Ending
    from largeforge.onhosts.inputs import Bundle

DETACHED = 130
_PASSED_ON = (*PASSED_ON, "MALLOC_", "CUDA_DEVICE_", "PYTORCH_")
_PYTHON = ("PYTHONSAFEPATH", "PYTHONUNBUFFERED", "PYTHONHASHSEED")
_SECRET = ("TOKEN", "PASSWORD", "SECRET", "KEY", "CREDENTIAL")
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

    def run(self) -> int:
        """Bring the stage to its end; return the exit code."""
        with reaches(self.inventory, list(self.task.hosts)) as reached:
            self.hosts = {name: OnHost(reach) for name, reach in reached.items()}
            bundle = inputs.bundle(self.spec, self._resolved)
            mark = artifacts.digest([self.task.fingerprint, sorted(bundle.inputs), self.task.launcher])
            seat = place.read(self.folder)
            host, look = self._found(seat) if seat else (None, {})
            job = look.get("job") or {}
            is_same = bool(job) and job["mark"] == mark
            if host is not None and job.get("active") and not is_same:
                self._note(f"{host.name} runs what this stage was before its inputs changed: it is ended")
                host.ask("cancel", base=host.base, id=self.name)
            if host is None or seat is None or not is_same or not self._is_to_follow(job):
                kept = is_same and bool(job["checkpoints"])
                host, look, seat = self._begun(bundle, mark, before=seat.host if seat and kept else "")
            else:
                self._note(f"{host.name} has this stage: following it from where it was left")
                seat = seat if seat.attempt == job["attempt"] else Seat(host.name, self.name, job["attempt"])
            return self._followed(host, look, seat, bundle)

    def _is_to_follow(self, job: Mapping[str, Any]) -> bool:
        """Whether a job runs, or has ended well and waits to be fetched."""
        return bool(job["active"] or job["ended"].get("code") == 0)

    def _found(self, seat: Seat) -> tuple[OnHost | None, dict[str, Any]]:
        """Look at the host where the stage was before; it is waited for, since its checkpoints are there."""
        host = self.hosts.get(seat.host)
        if host is None:
            return None, {}
        began, told = time.monotonic(), False
        while True:
            try:
                host.install()
                return host, host.look(self.name)
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

    def _begun(self, bundle: Bundle, mark: str, *, before: str) -> tuple[OnHost, dict[str, Any], Seat]:
        """Get a turn on a host, bring everything there, and start the job."""
        fit, looks = self._looked(bundle)
        names = choice.ordered(list(fit), before)
        if before in fit:
            names = [before]
            steps = (looks[before]["job"] or {}).get("checkpoints") or [0]
            self._note(f"checkpoint-{steps[0]} is on {before}: it continues there")
        requests = {name: self._request(name) for name in names}
        with Line([fit[name] for name in names], requests) as line:
            winner = line.turn(self._told_to_wait)
            host, look = fit[winner], looks[winner]
            self._bring(bundle, host, look)
            interpreter = python.ensure(host, self.task, report=self._note)
            folder = f"{look['home']}/jobs/{self.name}"
            Seat(host.name, self.name).write(self.folder)  # before it starts: whoever comes next looks there
            self.running_on = host.name
            said = line.go(winner, self._order(bundle, look["home"], folder, interpreter, mark))
        seat = Seat(host.name, self.name, said["attempt"])
        seat.write(self.folder)
        where = f" (GPU {', '.join(said['places'])})" if self.task.gpus else ""
        self._note(f"runs on {host.name}{where} as {said['unit']}")
        return host, {**look, "job": {"folder": folder}}, seat

    def _looked(self, bundle: Bundle) -> tuple[dict[str, OnHost], dict[str, dict[str, Any]]]:
        """Look at all hosts side by side and return those that can do it, with what they say.

        Raises DeployError when there is none.
        """
        keys = bundle.inputs

        def one(host: OnHost) -> tuple[dict[str, Any], str]:
            try:
                host.install()
                look = host.look(self.name, list(keys))
            except DeployError as error:
                return {}, str(error).removeprefix(f"{host.name}: ")
            missing = sum(item.num_bytes for key, item in keys.items() if key not in look["inputs"])
            return look, choice.unfit(self.task, host.reach.host, look, bytes_to_bring=missing)

        with ThreadPoolExecutor(max(1, len(self.hosts))) as pool:
            said = dict(zip(self.hosts, pool.map(one, self.hosts.values()), strict=True))
        wrong = {name: why for name, (_, why) in said.items() if why}
        for name, why in wrong.items():
            self._note(f"{name} cannot take it: {why}")
        fit = {name: host for name, host in self.hosts.items() if name not in wrong}
        if not fit:
            raise DeployError("no host can take it: " + "; ".join(f"{name}: {why}" for name, why in wrong.items()))
        return fit, {name: look for name, (look, _) in said.items()}

    def _request(self, name: str) -> dict[str, Any]:
        host = self.inventory.hosts[name]
        return {
            "base": self.hosts[name].base, "id": self.name, "who": shell.who(),
            "what": f"{self.task.recipe}, {self.task.stage}", "gpus": self.task.gpus,
            "gpu_names": list(self.task.gpu_names), "limit": host.num_gpus,
        }  # fmt: skip

    def _told_to_wait(self, standings: Mapping[str, Mapping[str, Any]]) -> None:
        text = choice.waiting_text(standings)
        if self.inventory.queue.when_busy == "refuse":
            raise DeployError(f"all hosts are taken (hosts.queue.when_busy=refuse): {text}")
        self._note(text)

    def _bring(self, bundle: Bundle, host: OnHost, look: Mapping[str, Any]) -> None:
        """Bring the inputs that the host does not have yet; each counts only when it has verified them."""
        for key, one in bundle.inputs.items():
            if key in look["inputs"]:
                continue
            transfer.push(one.path, f"{look['home']}/incoming/{key}", host.reach, report=self._note, hidden=True)
            said = host.ask("place", home=look["home"], key=key, files=one.files)
            if not said["kept"]:
                raise DeployError(f"{host.name}: {one.path} did not arrive as it was sent: {', '.join(said['wrong'])}")

    def _order(self, bundle: Bundle, home: str, folder: str, interpreter: str, mark: str) -> dict[str, Any]:
        module = ["largeforge.stages", f"{folder}/stage/stage.json"]
        argv = [interpreter, "-m", *module]
        if self.task.launcher is not None:
            launcher = extensions.load("launcher", self.task.launcher["name"])
            there = launching.Place(self.task.device, self.task.gpus, {}, interpreter, Path(folder) / "stage", folder)
            argv = launcher.command(launcher.Config(**self.task.launcher), module, there)
        handed = {n: v for n, v in os.environ.items() if n in _PYTHON or n.startswith(_PASSED_ON)}
        hidden = {n: v for n, v in handed.items() if any(word in n for word in _SECRET)}
        if WITHHELD in os.environ:
            hidden[WITHHELD] = os.environ[WITHHELD]
        files, links = bundle.around(self.spec, home)
        return {
            "mark": mark,
            "files": files,
            "links": links, "argv": argv, "stage": bundle.stage(self.spec, home, folder),
            "environment": {n: v for n, v in handed.items() if n not in hidden}, "secrets": hidden,
        }  # fmt: skip

    def _followed(self, host: OnHost, look: Mapping[str, Any], seat: Seat, bundle: Bundle) -> int:
        self.running_on = host.name
        follower = Follower(
            host, look["job"]["folder"], self.folder, seat, self.out, self._note,
            lambda text: bundle.at_home(text, look["home"]), self.inventory.queue.patience_s,
        )  # fmt: skip
        end = follower.run()
        self.running_on = ""
        if end.ended.get("code") == 0 and end.last.get("kind") == "result":
            self._bring_home(host, look["job"]["folder"], end.ended["files"])
            hand_on(self.out, json.loads(bundle.at_home(events.encode(end.last), look["home"])))
            host.ask("remove", base=host.base, id=self.name)
            place.forget(self.folder)
            return 0
        return self._failed(host, end)

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

    def _failed(self, host: OnHost, end: Ending) -> int:
        """Say what happened to the stage; return the exit code."""
        ended, last = end.ended, end.last
        reason = str(last.get("reason") or ("out_of_memory" if ended.get("memory") else ""))
        text = _what_happened(host.name, ended, last)
        if end.checkpoints:
            text += f"; checkpoint-{end.checkpoints[0]} is kept on {host.name}: the same command continues from it"
        code = int(last.get("exit_code", 1)) if last else 1
        self._emit("failed", error=text, exit_code=code, reason=reason, memory_gib=last.get("memory_gib", 0.0))
        return code or 1

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


def _what_happened(host: str, ended: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    if last.get("error") and not ended.get("memory"):
        return str(last["error"])
    if ended.get("gone"):
        return f"its job is not on {host} any more: somebody removed it"
    if ended.get("restarted"):
        return f"{host} was restarted while the stage ran there"
    if ended.get("memory"):
        return f"out of memory: the kernel of {host} killed its process"
    if ended.get("cancelled"):
        return f"it was ended on {host} (python -m largeforge cancel)"
    if ended.get("stopped"):
        return f"it was told to end on {host}, by systemctl or because the host was shut down"
    if ended.get("error"):
        return f"{host}: {ended['error']}"
    code = ended.get("code")
    if isinstance(code, int) and code < 0:
        return f"its process on {host} was killed by {signal.Signals(-code).name}"
    if code is None:
        status = f" ({ended['result']} {ended.get('status', '')})".rstrip() if ended.get("result") else ""
        return f"its unit on {host} was killed{status}"
    return f"its process on {host} ended with exit code {code} and no reason: its log says more"


def _shown(path: Path) -> str:
    """Return a path as a person in the working directory would type it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _told_to_end(number: int, frame: object) -> None:
    raise Detached


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
