"""Run a quantizer in a process of its environment: JSON in, events out."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge import artifacts, events, reaper
from largeforge.environments import build, spec
from largeforge.errors import StageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from largeforge.environments.store import Environment


@dataclass(frozen=True)
class Quantized:
    """What a quantizer said when it was done."""

    seconds: float
    peak_gib: float
    peak_gpu_gib: float
    versions: dict[str, str]
    environment: dict[str, Any]

    def record(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "seconds": self.seconds, "peak_gib": self.peak_gib, "peak_gpu_gib": self.peak_gpu_gib,
            "versions": self.versions, "environment": self.environment,
        }  # fmt: skip


def environment(name: str, requirements: Sequence[str], note: Callable[[str], None]) -> Environment | None:
    """Return the environment of a quantizer, built now if need be; None for one that needs no packages.

    Raises BuildError when it cannot be built.
    """
    return build.ensure(spec.Spec(name, tuple(requirements)), note) if name else None


def spec_of(
    name: str, config: Mapping[str, Any], job: Mapping[str, Any], there: Environment | None, *, stage: str
) -> dict[str, Any]:
    """Return what the process is given."""
    return {
        "stage": stage, "name": name, "config": dict(config), "job": dict(job),
        "own": spec.Spec("", there.requirements).pins if there else {},
        "expected": there.packages if there else {}, "folder": str(there.folder) if there else "",
    }  # fmt: skip


def quantize(
    name: str, config: Mapping[str, Any], job: Mapping[str, Any], there: Environment | None, told: events.Events
) -> Quantized:
    """Run one quantizer to its end; its progress is passed on.

    Raises StageError with what it says when it fails.
    """
    path = Path(job["out"]).with_suffix(".json")
    artifacts.write_json(path, spec_of(name, config, job, there, stage=told.stage))
    python = there.python if there else sys.executable
    result: dict[str, Any] = {}
    failed: dict[str, Any] = {}
    with subprocess.Popen(
        reaper.command([python, "-m", "largeforge.quantizers", str(path)], grace_s=2),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace", start_new_session=True,
        env={**os.environ, "TOKENIZERS_PARALLELISM": "false", "PYTHONSAFEPATH": "1"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            for line in process.stdout:
                event = events.decode(line)
                if event is None:
                    print(line, end="", file=sys.stderr)
                elif event["kind"] == "result":
                    result = event["info"]
                elif event["kind"] == "failed":
                    failed = event
                else:
                    told.emit(event.pop("kind"), **{key: event[key] for key in event.keys() - {"time", "stage"}})
        except BaseException:
            process.terminate()
            raise
        code = process.wait()
    if code or not result:
        raise StageError(f"{name}: {failed.get('error') or f'its process ended with {code}, see the log'}")
    return Quantized(
        seconds=float(result["seconds"]),
        peak_gib=float(result["peak_gib"]),
        peak_gpu_gib=float(result.get("peak_gpu_gib", 0.0)),
        versions=result["versions"],
        environment={"name": there.name, "key": there.key, "base": there.base} if there else {},
    )
