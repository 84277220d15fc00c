"""Start a stage on a host, or on several that train together: turns, files, the interpreter, and the job on each."""

from __future__ import annotations

import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from largeforge.cluster.shared import PASSED_ON, PYTHON
from largeforge.deploy import shell, transfer
from largeforge.errors import DeployError
from largeforge.onhosts import choice, place, python
from largeforge.onhosts.line import Line
from largeforge.onhosts.place import Seat
from largeforge.recipe import extensions, launching
from largeforge.secrets import WITHHELD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from largeforge.cluster.spec import Part
    from largeforge.onhosts.host import OnHost
    from largeforge.onhosts.inputs import Bundle
    from largeforge.onhosts.task import Task

Answer = TypeVar("Answer")
_PASSED_ON = (*PASSED_ON, "MALLOC_", "CUDA_DEVICE_", "PYTORCH_")
_SECRET = ("TOKEN", "PASSWORD", "SECRET", "KEY", "CREDENTIAL")


class Start:
    """One attempt to start a stage."""

    def __init__(
        self, task: Task, spec: Mapping[str, Any], hosts: Mapping[str, OnHost], bundle: Bundle, *,
        name: str, folder: Path, mark: str, note: Callable[[str], None],
    ):  # fmt: skip
        self.task, self.spec, self.hosts, self.bundle = task, spec, hosts, bundle
        self.name, self.folder, self.mark, self.note = name, folder, mark, note
        self.inventory = task.hosts_file
        self.began_on = ""
        """Hosts on which it may have been started."""
        self._looks: dict[str, dict[str, Any]] = {}

    def run(self, *, before: str) -> list[Seat]:
        """Get a turn on a host, or on each, bring everything there, and start the job; return where it is.

        `before` is the host with its checkpoints. Raises DeployError when that does not work.
        """
        fit = self._looked()
        if before in fit:
            steps = (self._looks[before]["job"] or {}).get("checkpoints") or [0]
            self.note(f"checkpoint-{steps[0]} is on {before}: it continues there")
        with ExitStack() as stack:
            lines = self._all_turns(stack) if self.task.takes_all else self._one_turn(stack, fit, before)
            pythons = self._prepared(list(lines))
            seats = [Seat(host, self.name, folder=self._folder(host)) for host in lines]
            place.write(self.folder, seats)  # before it starts: whoever comes next looks there
            self.began_on = ", ".join(lines)
            said = self._begun(lines, pythons)
        place.write(self.folder, seats := [seat.begun(said[seat.host]["attempt"]) for seat in seats])
        for host, job in said.items():
            where = f" (GPU {', '.join(job['places'])})" if self.task.on(host).gpus else ""
            self.note(f"runs on {host}{where} as {job['unit']}")
        return seats

    def _looked(self) -> list[str]:
        """Look at all hosts side by side and return those that can do it.

        Raises DeployError when there is none, or where all are needed not all can.
        """
        keys = self.bundle.inputs

        def one(host: OnHost) -> tuple[dict[str, Any], str]:
            try:
                host.install()
                look = host.look(self.name, list(keys))
                if (look["job"] or {}).get("active"):
                    self.note(f"{host.name} runs an attempt of this stage that does not count any more: it is ended")
                    host.ask("cancel", base=host.base, id=self.name)
                    look = host.look(self.name, list(keys))
            except DeployError as error:
                return {}, str(error).removeprefix(f"{host.name}: ")
            missing = sum(item.num_bytes for key, item in keys.items() if key not in look["inputs"])
            return look, choice.unfit(self.task.on(host.name), host.reach.host, look, bytes_to_bring=missing)

        with ThreadPoolExecutor(max(1, len(self.hosts))) as pool:
            said = dict(zip(self.hosts, pool.map(one, self.hosts.values()), strict=True))
        self._looks = {name: look for name, (look, _) in said.items()}
        wrong = {name: why for name, (_, why) in said.items() if why}
        why = "; ".join(f"{name}: {why}" for name, why in wrong.items())
        if wrong and self.task.takes_all:
            raise DeployError(f"{', '.join(self.hosts)} train together, and not all of them can: {why}")
        for name, text in wrong.items():
            self.note(f"{name} cannot take it: {text}")
        if len(wrong) == len(said):
            raise DeployError(f"no host can take it: {why}")
        return [name for name in self.hosts if name not in wrong]

    def _one_turn(self, stack: ExitStack, fit: list[str], before: str) -> dict[str, Line]:
        """Stand in line on all hosts at once, and take the first turn."""
        names = [before] if before in fit else choice.ordered(fit, before)
        requests = {name: self._request(name) for name in names}
        line = stack.enter_context(Line([self.hosts[name] for name in names], requests))
        return {line.turn(self._told_to_wait): line}

    def _all_turns(self, stack: ExitStack) -> dict[str, Line]:
        """Stand in line on one host after another, and keep each turn.

        All who want several hosts do so in one order, whatever they call them: so none waits for another that waits
        for it.
        """
        boots: dict[str, str] = {}
        for name in self.hosts:
            other = boots.setdefault(self._looks[name]["boot"], name)
            if other != name:
                raise DeployError(f"{other} and {name} of the inventory are the same machine")
        lines: dict[str, Line] = {}
        for name in sorted(self.hosts, key=lambda name: (self._looks[name]["machine"], name)):
            lines[name] = stack.enter_context(Line([self.hosts[name]], {name: self._request(name)}))
            lines[name].turn(self._told_to_wait)
        return {name: lines[name] for name in self.hosts}

    def _request(self, name: str) -> dict[str, Any]:
        task, host = self.task.on(name), self.inventory.hosts[name]
        return {
            "base": self.hosts[name].base, "id": self.name, "who": shell.who(),
            "what": f"{task.recipe}, {task.stage}", "gpus": task.gpus,
            "gpu_names": list(task.gpu_names), "limit": host.num_gpus,
        }  # fmt: skip

    def _told_to_wait(self, standings: Mapping[str, Mapping[str, Any]]) -> None:
        text = choice.waiting_text(standings)
        if self.inventory.queue.when_busy == "refuse":
            raise DeployError(f"all hosts are taken (hosts.queue.when_busy=refuse): {text}")
        self.note(text)

    def _prepared(self, names: list[str]) -> dict[str, str]:
        """Bring inputs and the environment to hosts, side by side; return the interpreter on each."""

        def one(name: str) -> str:
            self._bring(self.hosts[name])
            return python.ensure(self.hosts[name], self.task, report=self.note)

        return _each(one, names)

    def _bring(self, host: OnHost) -> None:
        """Bring the inputs that the host does not have yet; each counts only when it has verified them."""
        look = self._looks[host.name]
        for key, one in self.bundle.inputs.items():
            if key in look["inputs"]:
                continue
            transfer.push(one.path, f"{look['home']}/incoming/{key}", host.reach, report=self.note, hidden=True)
            said = host.ask("place", home=look["home"], key=key, files=one.files)
            if not said["kept"]:
                raise DeployError(f"{host.name}: {one.path} did not arrive as it was sent: {', '.join(said['wrong'])}")

    def _begun(self, lines: Mapping[str, Line], pythons: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Start the job on each host; on all or on none."""
        key = secrets.token_hex(16)
        orders = {host: self._order(host, pythons[host], key) for host in lines}

        def one(host: str) -> dict[str, Any] | DeployError:
            try:
                return lines[host].go(host, orders[host])
            except DeployError as error:
                return error

        tried = _each(one, list(lines))
        said = {host: job for host, job in tried.items() if not isinstance(job, DeployError)}
        for error in tried.values():
            if isinstance(error, DeployError):
                for host in said:
                    self.hosts[host].ask("cancel", base=self.hosts[host].base, id=self.name)
                raise error
        return said

    def _folder(self, host: str) -> str:
        return f"{self._looks[host]['home']}/jobs/{self.name}"

    def _order(self, host: str, interpreter: str, key: str) -> dict[str, Any]:
        home, folder = self._looks[host]["home"], self._folder(host)
        files, links = self.bundle.around(self.spec, home)
        module = ["largeforge.stages", f"{folder}/stage/stage.json"]
        argv, mark = [interpreter, "-m", *module], self.mark
        if self.task.takes_all:
            part = self._part(host, interpreter, module, key)
            files["stage/part.json"] = part.encode()
            argv = [interpreter, "-m", "largeforge.cluster.part", f"{folder}/stage/part.json"]
            mark = mark if host == part.first else key  # checkpoints count on the first host alone
        elif self.task.launcher is not None:
            launcher = extensions.load("launcher", self.task.launcher["name"])
            there = launching.Place(self.task.device, self.task.gpus, {}, interpreter, Path(folder) / "stage", folder)
            argv = launcher.command(launcher.Config(**self.task.launcher), module, there)
        handed = {n: v for n, v in os.environ.items() if n in PYTHON or n.startswith(_PASSED_ON)}
        hidden = {n: v for n, v in handed.items() if any(word in n for word in _SECRET)}
        if WITHHELD in os.environ:
            hidden[WITHHELD] = os.environ[WITHHELD]
        return {
            "mark": mark, "files": files, "links": links, "argv": argv,
            "stage": self.bundle.stage(self.spec, home, folder),
            "environment": {n: v for n, v in handed.items() if n not in hidden}, "secrets": hidden,
        }  # fmt: skip

    def _part(self, host: str, interpreter: str, module: list[str], key: str) -> Part:
        """Return what one of several hosts does."""
        assert self.task.launcher is not None
        launcher = extensions.load("launcher", self.task.launcher["name"])
        hosts = {name: self.inventory.hosts[name] for name in self.hosts}
        gpus = self.task.on(host).gpus
        there = launching.Place(self.task.device, gpus, hosts, interpreter)
        port = self._looks[next(iter(hosts))]["port"]
        part: Part = launcher.part(
            launcher.Config(**self.task.launcher), module, there, host=host, port=port, key=key
        )  # fmt: skip
        return part


def _each(do: Callable[[str], Answer], names: list[str]) -> dict[str, Answer]:
    """Do something for each host, side by side; what is under way ends with this process when that is told to end."""
    if len(names) == 1:
        return {names[0]: do(names[0])}
    pool = ThreadPoolExecutor(len(names))
    try:
        return dict(zip(names, pool.map(do, names), strict=True))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
