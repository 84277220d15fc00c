"""Run one stage in this process: `python -m largeforge.stages SPEC.json`.

Events go to standard output, logs to standard error; see `events.py`. The last event is
`result` or `failed`, and the exit code is that of the error.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from largeforge import events, os_errors
from largeforge.errors import LargeForgeError, StageError
from largeforge.secrets import restored
from largeforge.signals import leave
from largeforge.stages.alone import alone
from largeforge.stages.context import Context, Result
from largeforge.training import failures


def main(arguments: list[str]) -> int:
    """Run the stage that a spec file describes; return the exit code."""
    stream = events.take_stdout()
    spec = restored(json.loads(Path(arguments[0]).read_text(encoding="utf-8")))
    first = int(os.environ.get("RANK", "0")) == 0
    telling = events.Events(spec["stage"], stream)
    out = telling if first else events.Events(spec["stage"], Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, _terminated)
    try:
        if first:
            alone(Path(spec["work"]), out)
        result = run(spec, out)
    except KeyboardInterrupt:
        return 130
    except LargeForgeError as error:
        cause = failures.behind(error, Path(spec["out"]).parent)
        telling.emit(
            "failed", error=str(error), exit_code=error.exit_code, reason=cause.reason, memory_gib=cause.memory_gib
        )
        return error.exit_code
    except Exception as error:
        traceback.print_exc()
        cause = failures.explain(error, Path(spec["out"]).parent) or failures.Cause("", _unexpected(error, spec))
        telling.emit("failed", error=cause.message, exit_code=1, reason=cause.reason, memory_gib=cause.memory_gib)
        return StageError.exit_code
    out.emit("result", metrics=result.metrics, info=result.info)
    return 0


def run(spec: dict[str, Any], out: events.Events) -> Result:
    """Validate the spec's config with the stage's own model and run the stage."""
    if not re.fullmatch(r"[a-z_]+", spec["kind"]):
        raise StageError(f"malformed stage kind {spec['kind']!r}")
    module = importlib.import_module(f"largeforge.stages.{spec['kind']}")
    context = Context(
        stage=spec["stage"],
        inputs={name: Path(path) for name, path in spec["inputs"].items()},
        out=Path(spec["out"]),
        work=Path(spec["work"]),
        events=out,
        lock=spec["lock"],
        recorded=spec.get("recorded", {}),
    )
    result: Result = module.run(module.Config.model_validate(spec["config"]), context)
    return result


def _unexpected(error: Exception, spec: dict[str, Any]) -> str:
    system = os_errors.inside(error)
    return os_errors.explain_run_error(system, Path(spec["out"])) if system else f"{type(error).__name__}: {error}"


def _terminated(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
