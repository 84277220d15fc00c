"""How long a command takes before it does anything, beside a Python that does nothing.

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

from scripts.tables import columns

if TYPE_CHECKING:
    import argparse

SUMMARY = "medians of --help, mode=plan and a typo, beside a bare Python"


@dataclass(frozen=True)
class Command:
    """Something to start, and how it must end."""

    label: str
    arguments: tuple[str, ...]
    exit_code: int = 0


_PLAN = ("-m", "largeforge", "+recipe=sft_qwen7b", "dataset.path=rows.jsonl", "mode=plan")

COMMANDS = (
    Command("python -c pass", ("-c", "pass")),
    Command("--help", ("-m", "largeforge", "--help")),
    Command("+recipe=sft_qwen7b mode=plan", _PLAN),
    Command("+recipe=sft_qwen7b method.learning_rte=1 mode=plan", (*_PLAN, "method.learning_rte=1"), exit_code=2),
)
"""The first is what the others are compared with."""


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
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all timings as JSON")


def run(options: argparse.Namespace) -> int:
    """Measure, print the table, and return 1 when a command ended otherwise than it should."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rows.jsonl").write_text('{"prompt": "1 + 1 =", "response": "2"}\n' * 40)
        try:
            timings = measure(COMMANDS, rounds=max(options.runs, 1), folder=Path(folder))
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


def measure(commands: tuple[Command, ...], *, rounds: int, folder: Path) -> list[Timing]:
    """Start every command once per round and return the seconds of each.

    Raises RuntimeError when one ends with another exit code than its own.
    """
    seconds: dict[str, list[float]] = {command.label: [] for command in commands}
    for number in range(rounds + 1):
        for command in commands:
            started = time.perf_counter()
            ended = subprocess.run([sys.executable, *command.arguments], cwd=folder, capture_output=True, text=True)
            taken = time.perf_counter() - started
            if ended.returncode != command.exit_code:
                text = (ended.stderr or ended.stdout).strip()
                raise RuntimeError(f"{command.label}: exit code {ended.returncode}, not {command.exit_code}:\n{text}")
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
