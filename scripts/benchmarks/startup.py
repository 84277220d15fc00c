"""How long a command takes before it does anything, beside a Python that does nothing and, if asked for, peers.

The commands take turns, so that a busy moment of the machine falls on all of them. The first
round warms the disk cache and does not count.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.benchmarks import _fleet, _peers
from scripts.tables import columns

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

SUMMARY = "medians of --help, mode=plan and a typo, beside a bare Python and other toolkits"


@dataclass(frozen=True)
class Command:
    """Something to start, and how it must end."""

    label: str
    arguments: tuple[str, ...]
    exit_code: int = 0
    program: str = sys.executable
    says: str = ""
    """What its output must have; checked in every round."""


_PLAN = ("-m", "largeforge", "+recipe=sft_qwen7b", "dataset.path=rows.jsonl", "mode=plan")

COMMANDS = (
    Command("python -c pass", ("-c", "pass")),
    Command("--help", ("-m", "largeforge", "--help")),
    Command("+recipe=sft_qwen7b mode=plan", _PLAN),
    Command("a misspelt learning rate", (*_PLAN, "method.learning_rte=1"), exit_code=2, says="learning_rte"),
    Command("50 experts on 100 hosts, mode=plan", ("-m", "largeforge", "+recipe=fleet", "mode=plan")),
)
"""The first is what the others are compared with."""

_EXPERTS, _HOSTS = 50, 100


@dataclass(frozen=True)
class Timing:
    """The seconds of one command."""

    label: str
    seconds: list[float]

    @property
    def median(self) -> float:
        """Median in seconds."""
        return statistics.median(self.seconds)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--runs", type=int, default=10, help="counted rounds (default: %(default)s)")
    parser.add_argument("--peers", default="", metavar="NAMES", help=f"of {','.join(_peers.PEERS)}; installs them once")
    parser.add_argument(
        "--cache", type=Path, default=_peers.cache_folder(), metavar="FOLDER", help="their environments (%(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all timings as JSON")


def run(options: argparse.Namespace) -> int:
    """Measure, print the table, and return 1 when a command ended otherwise than it should."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            peers = [_peers.PEERS[name] for name in options.peers.split(",") if name]
        except KeyError as error:
            print(f"no such peer: {error}; there is: {', '.join(_peers.PEERS)}", file=sys.stderr)
            return 2
        _fleet.write(Path(folder), experts=_EXPERTS, hosts=_HOSTS)
        commands = [*COMMANDS, *(command for peer in peers for command in _commands(peer, Path(folder), options.cache))]
        try:
            timings = measure(commands, rounds=max(options.runs, 1), folder=Path(folder))
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 1
    print(table(timings))
    if options.json:
        load = os.getloadavg()[0]
        found = {
            "python": sys.version.split()[0],
            "load_1min": load,
            "commands": [asdict(timing) for timing in timings],
        }
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


def _commands(peer: _peers.Peer, folder: Path, cache: Path) -> list[Command]:
    """Return a peer's commands, or none, with the reason on stderr, when it cannot be installed."""
    try:
        programs = _peers.install(peer, cache)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return []
    (folder / f"{peer.name}.yaml").write_text(peer.config, encoding="utf-8")
    (name, *arguments), (checker, *options) = peer.help, peer.check
    return [
        Command(f"{peer.name}: help", tuple(arguments), program=str(programs / name)),
        Command(
            f"{peer.name}: a misspelt learning rate", tuple(options), exit_code=1, program=str(programs / checker),
            says=peer.complaint,
        ),
    ]  # fmt: skip


def measure(commands: Sequence[Command], *, rounds: int, folder: Path) -> list[Timing]:
    """Start every command once per round and return the seconds of each.

    Raises RuntimeError when one ends with another exit code than its own, or without its words.
    """
    seconds: dict[str, list[float]] = {command.label: [] for command in commands}
    environment = _peers.environment()
    for number in range(rounds + 1):
        for command in commands:
            started = time.perf_counter()
            words = [command.program, *command.arguments]
            ended = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environment)
            taken = time.perf_counter() - started
            text = (ended.stderr + ended.stdout).strip()
            if ended.returncode != command.exit_code:
                raise RuntimeError(f"{command.label}: exit code {ended.returncode}, not {command.exit_code}:\n{text}")
            if command.says not in text:
                raise RuntimeError(f"{command.label}: it does not speak of {command.says}:\n{text}")
            if number:
                seconds[command.label].append(taken)
    return [Timing(label, taken) for label, taken in seconds.items()]


def table(timings: list[Timing]) -> str:
    """Return median, least, most and the ratio to the first command, one command a line."""
    bare = timings[0].median
    rows: list[tuple[str, ...]] = [("command", "median ms", "min ms", "max ms", "× bare")]
    for timing in timings:
        milliseconds = [f"{1000 * value:.0f}" for value in (timing.median, min(timing.seconds), max(timing.seconds))]
        rows.append((timing.label, *milliseconds, f"{timing.median / bare:.1f}"))
    return columns(rows)
