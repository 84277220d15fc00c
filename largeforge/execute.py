"""Carry out a plan from start to report: run directory, events, stages, report."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from largeforge import artifacts, events, progress, report, runner, runs
from largeforge.errors import Interrupted, LargeForgeError
from largeforge.forecast import training
from largeforge.preflight import run as preflight
from largeforge.tracking import following as tracking

if TYPE_CHECKING:
    from largeforge.plan import Plan
    from largeforge.runner import Sink
    from largeforge.runs import Run

EVENTS = "events.jsonl"
RECORDED = ("progress", "eval", "checkpoint", "sample", "table", "gate", "regression", "answer")
"""Events that are also kept with the stage, for the report of a run that reuses it."""

REFRESH_S = 60.0
"""Seconds between two reports while the run goes on."""


def execute(plan: Plan, command: str, show: Sink) -> Path:
    """Run the plan, continuing an interrupted run of the same lock; return the run directory.

    `command` is what the user typed, for the report and for hints. Every event goes to `show`
    and to `events.jsonl`. Raises PreflightError before anything is written, and what the runner
    raises, after the report is written.
    """
    warnings = preflight.require(plan)
    with (
        runs.opened(plan) as run,
        _growing(run.path / EVENTS) as stream,
        tracking.following(run.path, plan.recipe) as trackers,
    ):
        earlier = progress.earlier_seconds(run.path / EVENTS)
        sink = _remembering(plan, progress.enriched(plan, earlier, _recording(run, stream, show)))
        sink = _noting(trackers, sink)
        started = time.monotonic()
        sink(_event("run_started", **_described(plan, run, command)))
        for warning in warnings:
            sink(_event("note", text=f"warning: {warning}"))
        try:
            runs.describe(run.path, plan)
            runner.run(plan, run, sink)
        except LargeForgeError as error:
            fields = {"error": str(error), "exit_code": error.exit_code, "resume_command": command}
            sink(_event("run_failed", run_dir=runs.relative(run.path), **fields))
            error.was_shown = True
            report.write(run.path)
            interrupted = isinstance(error, Interrupted)
            _tell(sink, trackers.close(patience_s=tracking.INTERRUPTED_S if interrupted else tracking.PATIENCE_S))
            raise
        seconds = round(time.monotonic() - started, 1)
        path = runs.relative(run.path / "report.html")
        end = {"run_dir": runs.relative(run.path), "report": path, "next": next_commands(plan, command)}
        sink(_event("run_finished", seconds=seconds, **end))
        report.write(run.path)
        _tell(sink, trackers.close())
        return run.path


def _growing(path: Path) -> IO[str]:
    """Open the events of a run that may have been killed before."""
    artifacts.drop_unfinished_line(path)
    return path.open("a", encoding="utf-8")


def next_commands(plan: Plan, command: str) -> list[dict[str, str]]:
    """Return what a user would type next, as text and command."""
    recipe = plan.recipe
    found = []
    registered = [job.register_as for job in recipe.training_jobs.values() if job.register_as]
    deployed = [stage for stage in plan.stages if stage.kind == "deploy"]
    if deployed:
        name, deployment = recipe.hosts.name, deployed[0].config["deploy"]["name"] or recipe.name.replace("_", "-")
        found += [
            {"text": "see what serves", "command": f"python -m largeforge status {name}"},
            {"text": "go back to what served before", "command": f"python -m largeforge rollback {name} {deployment}"},
        ]
    elif recipe.topology and not recipe.serve:
        found.append({"text": "serve these experts until Ctrl-C", "command": f"{command} serve=true"})
    if recipe.name == "quickstart":
        found[:] = [
            {"text": "serve these experts until Ctrl-C", "command": "python -m largeforge +recipe=serve_quickstart"},
            {
                "text": "train an expert on your own conversations",
                "command": "python -m largeforge +recipe=my_expert dataset.path=my.jsonl",
            },
        ]
    if registered and recipe.registry.uri.startswith("sqlite"):
        found.append(
            {"text": "look at the registered models", "command": f"mlflow ui --backend-store-uri {recipe.registry.uri}"}
        )
    found.append({"text": "run all of it afresh", "command": f"{command} runs.resume=false"})
    return found


def _recording(run: Run, stream: IO[str], show: Sink) -> Sink:
    """Return a sink that writes every event down, keeps the report fresh, and shows the event."""
    written = time.monotonic()

    def sink(event: dict[str, Any]) -> None:
        nonlocal written
        line = events.encode(event)
        stream.write(line + "\n")
        stream.flush()
        if event["kind"] in RECORDED and event["stage"]:
            artifacts.append_line(run.stage_dir(event["stage"]) / EVENTS, line)
        show(event)
        if event["kind"] == "progress" and time.monotonic() - written > REFRESH_S:
            written = time.monotonic()
            with suppress(OSError):  # the report at the end says it
                report.write(run.path)

    return sink


def _remembering(plan: Plan, sink: Sink) -> Sink:
    """Return a sink that keeps the rate of each training that has finished, for later plans."""

    def remembering(event: dict[str, Any]) -> None:
        if event["kind"] == "finished" and not event.get("reused") and event["stage"] in plan.forecasts:
            training.remember(plan, event["stage"], event.get("metrics", {}))
        sink(event)

    return remembering


def _noting(trackers: tracking.Following, sink: Sink) -> Sink:
    """Return a sink that says once what went wrong with a tracker."""

    def noting(event: dict[str, Any]) -> None:
        sink(event)
        _tell(sink, trackers.problems())

    return noting


def _tell(sink: Sink, problems: list[str]) -> None:
    for text in problems:
        sink(_event("note", text=f"warning: {text}"))


def _event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"time": round(time.time(), 3), "stage": "", "kind": kind, **fields}


def _described(plan: Plan, run: Run, command: str) -> dict[str, Any]:
    return {
        "recipe": plan.recipe.name,
        "description": plan.recipe.description,
        "run_dir": runs.relative(run.path),
        "stages": [stage.name for stage in plan.stages],
        "digest": plan.digest,
        "command": command,
        "machine": str(plan.machine),
    }
