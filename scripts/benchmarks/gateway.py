"""How fast the gateway passes requests on: beside LiteLLM's proxy, two routers written in Rust, and no gateway at all.

All stand before the same upstream, a program in C that answers at once and streams at a fixed pace, and are asked by
the same load, another program in C. The gateway has a core of its own, the load and the upstream share the others;
once more with all cores shared, with one worker and with several. The systems take turns within each round, and stand
still while another is measured. Closed loop: each connection asks again once it was answered. Open loop: requests are
due at a fixed rate, and time counts from when they were due. "Added" is what a percentile is above that of the upstream
asked directly in the same round. Every answer is checked; a wrong one ends that turn, is reported, and the exit code
is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.recipe.schema import Gateway
from scripts.benchmarks import _gateway_cells as cells
from scripts.benchmarks import _gateway_profile as profile
from scripts.benchmarks import _gateway_servers as servers
from scripts.benchmarks import _gateway_systems as systems
from scripts.benchmarks import _gateway_tables as tables
from scripts.benchmarks import _peers
from scripts.benchmarks._gateway_cells import Cell, Subject
from scripts.benchmarks._gateway_servers import BenchmarkFailed, Cores, Server
from scripts.benchmarks._gateway_systems import Place, System

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SUMMARY = "requests/s, added latency, CPU and memory of the gateway, beside LiteLLM, SMG and vllm-router"

FIRST_PORT = 18100
SLOW_S = 20.0
"""A turn that takes longer is not repeated in later rounds."""
QUIET_LOAD = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--rounds", type=int, default=3, help="turns of each system in each cell (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.5, help="length of a turn (%(default)s)")
    parser.add_argument("--rate", type=float, default=500, help="requests/s of the open loop (%(default)s)")
    parser.add_argument("--long-rate", type=float, default=100, help="the same for long requests (%(default)s)")
    parser.add_argument("--requests", type=int, default=200_000, help="requests while memory is watched (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes when cores are shared (%(default)s)")
    parser.add_argument("--systems", default="", metavar="A;B", help=f"only these of: {'; '.join(systems.SYSTEMS)}")
    parser.add_argument("--commits", default="", metavar="A,B", help="also our gateway as of these commits")
    parser.add_argument("--only", default="", metavar="A,B", help=f"only these of: {', '.join(tables.GROUPS)}")
    parser.add_argument("--quick", action="store_true", help="one short round of fewer cells, in about two minutes")
    parser.add_argument("--profile", action="store_true", help="print where our gateway's time goes, and nothing else")
    parser.add_argument(
        "--cache", type=Path, default=_peers.cache_folder(), metavar="FOLDER", help="their environments (%(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures as JSON")


def run(options: argparse.Namespace) -> int:
    """Measure and print the tables; return 1 when something failed, 2 when the command line is wrong."""
    if problem := _problem(options):
        print(problem, file=sys.stderr)
        return 2
    if options.quick:
        options.rounds, options.seconds, options.requests = 1, min(options.seconds, 1.0), min(options.requests, 50_000)
    quiet = os.getloadavg()[0]
    if quiet > QUIET_LOAD:
        print(f"the machine is not quiet: load {quiet:.2f}; trust the ratios only", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="largeforge-bench-") as name, servers.alone(options.cache):
        try:
            bench = _Bench(options, Path(name))
            if options.profile:
                print(bench.profile())
                return 0
            bench.run()
        except (BenchmarkFailed, RuntimeError) as error:
            print(error, file=sys.stderr)
            return 1
    print(tables.report(bench.rows, bench.memory))
    for failure in bench.failures:
        print(failure, file=sys.stderr)
    if options.json:
        about = {"cores": os.cpu_count(), "load_before": quiet, "chunks": cells.CHUNKS, "failures": bench.failures}
        found = {**about, "rows": bench.rows, "memory": bench.memory}
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 1 if bench.failures else 0


def _problem(options: argparse.Namespace) -> str:
    for given, known in (
        (_names(options.systems, ";"), list(systems.SYSTEMS)),
        (_names(options.only), list(tables.GROUPS)),
    ):
        for name in given:
            if name not in known:
                return f"no such name: {name}; there is: {', '.join(known)}"
    return ""


def _names(text: str, separator: str = ",") -> list[str]:
    return [name.strip() for name in text.split(separator) if name.strip()]


class _Bench:
    """One run."""

    def __init__(self, options: argparse.Namespace, folder: Path):
        self._options = options
        self._folder = folder
        self._load = servers.compiled("load", folder=options.cache)
        self._upstream = servers.compiled("upstream", folder=options.cache)
        self._port = FIRST_PORT
        self._systems = self._chosen()
        self.rows: list[dict[str, Any]] = []
        self.memory: list[dict[str, Any]] = []
        self.failures: list[str] = []

    def run(self) -> None:
        """Measure everything that was asked for."""
        options = self._options
        groups = _names(options.only) or list(tables.GROUPS)
        apart = [cell for cell in cells.cells(options.rate, options.long_rate) if cell.group in groups]
        shared = cells.shared_cells() if "shared" in groups else []
        if options.quick:
            apart = [cell for cell in apart if cell.connections in (16, 64)]
            shared = shared[-1:]
        if apart:
            with self._running([(system, 1) for system in self._systems], Cores.apart(1)) as subjects:
                self._rounds(subjects, apart)
        if shared:
            wide = [system for system in self._systems if not system.is_narrow and not system.commit]
            pairs = [(system, number) for system in wide for number in _worker_counts(system, options.workers)]
            with self._running(pairs, Cores.apart(os.cpu_count() or 1)) as subjects:
                self._rounds(subjects, shared)
        if "memory" in groups:
            watched = [system for system in self._systems if system.name in (systems.EVERYTHING_200, systems.SMG)]
            with self._running([(system, 1) for system in watched], Cores.apart(1)) as subjects:
                for subject in subjects:
                    self._watch_memory(subject)

    def profile(self) -> str:
        """Return where the time of our gateway goes."""
        system = systems.SYSTEMS[_names(self._options.systems, ";")[0] if self._options.systems else systems.OURS]
        programs = _peers.install(profile.PACKAGES, self._options.cache)
        with self._running([(system, 1)], Cores.apart(1)) as subjects:
            if not subjects:
                raise BenchmarkFailed("\n".join(self.failures))
            return profile.report(
                subjects[0], load=self._load, folder=self._folder, programs=programs, seconds=self._options.seconds * 4
            )

    def _chosen(self) -> list[System]:
        names = _names(self._options.systems, ";")
        chosen = [system for name, system in systems.SYSTEMS.items() if not names or name in names]
        return [*chosen, *(systems.at_commit(commit) for commit in _names(self._options.commits))]

    @contextmanager
    def _running(self, pairs: Sequence[tuple[System, int]], cores: Cores) -> Iterator[list[Subject]]:
        """Start the upstream and systems; each stands still once it has answered."""
        with ExitStack() as stack:
            port = self._next_port()
            argv = [str(self._upstream), str(port), str(cells.CHUNKS), str(int(1000 * cells.CHUNK_INTERVAL_MS))]
            upstream = Server("upstream", argv, port=port, cores=cores.rest, folder=self._folder)
            stack.enter_context(upstream).wait(systems.body("general", "short"), systems.ANSWER.encode())
            subjects = []
            for system, workers in pairs:
                try:
                    subjects.append(self._started(stack, system, workers, port, cores))
                except (BenchmarkFailed, RuntimeError) as error:
                    self.failures.append(f"{system.name}: {error}")
            yield subjects

    def _started(self, stack: ExitStack, system: System, workers: int, upstream: int, cores: Cores) -> Subject:
        if system.command is None:
            return Subject(system, workers, upstream, cores, None)
        options = self._options
        programs = _peers.install(system.packages, options.cache) if system.packages else Path()
        cwd = systems.checked_out(system.commit, self._folder) if system.commit else systems.ROOT
        place = Place(f"http://127.0.0.1:{upstream}", self._next_port(), workers, self._folder, programs)
        server = Server(
            f"{system.name}-{place.port}", system.command(place), port=place.port, cores=cores.server,
            folder=self._folder, environment=system.environment, cwd=cwd,
        )  # fmt: skip
        question = systems.body(system.model, "short")
        stack.enter_context(server).wait(question, systems.ANSWER.encode(), expert=system.expert)
        server.stand_still()
        return Subject(system, workers, place.port, cores, server)

    def _next_port(self) -> int:
        """Return a port that is free, as is the next one."""
        self._port += 2
        while not (servers.is_free(self._port) and servers.is_free(self._port + 1)):
            self._port += 2
        return self._port

    def _rounds(self, subjects: list[Subject], chosen: list[Cell]) -> None:
        slow: set[tuple[str, Cell]] = set()
        for number in range(self._options.rounds):
            closed: dict[tuple[str, str], float] = {}
            for place, cell in enumerate(chosen):
                turn = (number + place) % len(subjects)
                for subject in [*subjects[turn:], *subjects[:turn]]:
                    label = subject.label(with_workers=cell.is_shared)
                    if (subject.system.is_narrow and not _is_narrow(cell)) or (label, cell) in slow:
                        continue
                    try:
                        found = cells.measure(
                            subject, cell, load=self._load, folder=self._folder, seconds=self._options.seconds,
                            most=closed.get((label, cell.kind), 0.0),
                        )  # fmt: skip
                    except BenchmarkFailed as error:
                        self.failures.append(f"{label}, {cell}: {error}")
                        slow.add((label, cell))
                        continue
                    if cell.connections == cells.OPEN_CONNECTIONS and not cell.rate:
                        closed[label, cell.kind] = found["requests_per_s"]
                    if found["took_s"] > SLOW_S:
                        slow.add((label, cell))
                    about = {"system": label, "round": number, "group": cell.group, "connections": cell.connections}
                    self.rows.append({**about, **found})
                    _say(f"{number} {cell.group} {cell.connections} {label}: {found['requests_per_s']:.0f}/s")

    def _watch_memory(self, subject: Subject) -> None:
        assert subject.server is not None
        requests = max(self._options.requests, 100)
        steps = []
        for _ in range(10):
            steps.append(
                cells.memory_step(subject, requests // 10, load=self._load, folder=self._folder)
            )  # after each tenth
            _say(f"memory {subject.system.name}: {steps[-1]['now']:.1f} MiB")
        self.memory.append({"system": subject.system.name, "requests": requests, "steps": steps})


def _worker_counts(system: System, most: int) -> list[int]:
    if system.command is None:
        return [1]
    if system.name in (systems.SMG, systems.VLLM_ROUTER):
        return [os.cpu_count() or 1]  # threads
    if system.name == systems.OURS and "workers" not in Gateway.model_fields:
        return [1]
    return [1, most]


def _is_narrow(cell: Cell) -> bool:
    return cell.connections == cells.OPEN_CONNECTIONS or cell.group == "short"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
