"""Events of a run as records for trackers; what trackers have no use for is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge import events
from largeforge.console.measured import heldout_metrics, own_metrics
from largeforge.console.text import finite
from largeforge.recipe.tracking import Begun, Ended, Point, Sample, Summary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from largeforge.recipe.tracking import About, Ending, Record

FIGURES = (
    "loss", "learning_rate", "grad_norm", "epoch", "tokens_per_s", "mfu", "memory_gib", "gpu_utilization", "cost_usd",
    "seconds_so_far",
)  # fmt: skip
_ENDINGS: dict[int, Ending] = {130: "interrupted"}

Event = dict[str, Any]


class Translator:
    """Translates the events of one run, in their order."""

    def __init__(self, about: About, run_dir: Path, *, done: set[str] | None = None):
        self._done = done or set()
        """Stages that are finished already: a later sitting says so again."""
        self._trainings, self._run_dir = about.trainings, run_dir
        self._of_job = {job: stage for stage, job in about.trainings.items()}

    def records(self, event: Event) -> Iterator[Record]:
        """Yield what an event means to a tracker."""
        kind, stage, now = event["kind"], str(event["stage"]), finite(event.get("time"))
        if now is None:
            return
        if kind == "run_finished":
            yield Ended("", now, "finished")
        elif kind == "run_failed":
            how = _ENDINGS.get(event.get("exit_code") or 1, "failed")
            yield Ended("", now, how)
        elif event.get("reused") is True and stage in self._done:
            return
        elif stage in self._trainings:
            yield from self._of_training(event, kind, stage, now)
        elif (training := self._of_job.get(self._job(stage))) is not None:
            yield from _judgement(event, kind, training, now)

    def _of_training(self, event: Event, kind: str, stage: str, now: float) -> Iterator[Record]:
        if kind == "started":
            yield Begun(stage, now)
        elif kind == "finished":
            if event.get("reused") is True:
                yield Begun(stage, now)
                yield from self._recorded(stage)
            yield Summary(stage, now, _named("final", event.get("metrics")))
            yield Ended(stage, now, "finished")
            self._done.add(stage)
        elif kind == "failed":
            yield Ended(stage, now, "failed")
        else:
            yield from _at_a_step(event, kind, stage, now)

    def _recorded(self, stage: str) -> Iterator[Record]:
        """Yield what a training that this run reuses told in the run that it comes from."""
        try:
            with (self._run_dir / stage / "events.jsonl").open(encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    event = events.decode(line)
                    now = finite(event.get("time")) if event else None
                    if event is not None and now is not None:
                        yield from _at_a_step(event, event["kind"], stage, now)
        except OSError:
            return

    @staticmethod
    def _job(stage: str) -> str:
        """Return the job of a stage by its name: `mapper.evaluate`, or `evaluate` of the only one."""
        return stage.rpartition(".")[0] or "main"


def _at_a_step(event: Event, kind: str, stage: str, now: float) -> Iterator[Record]:
    step = finite(event.get("step"))
    if step is None:
        return
    if kind == "progress":
        values = {f"train/{name}": value for name in FIGURES if (value := finite(event.get(name))) is not None}
        yield Point(stage, int(step), now, {**values, **_named("train", own_metrics(event.get("metrics")))})
    elif kind == "eval":
        yield Point(stage, int(step), now, _named("eval", heldout_metrics(event.get("metrics"))))
    elif kind == "sample":
        texts = (str(event.get(name) or "") for name in ("prompt", "text", "reference"))
        yield Sample(stage, int(step), now, *texts)


def _judgement(event: Event, kind: str, training: str, now: float) -> Iterator[Record]:
    stage = str(event["stage"]).rpartition(".")[2]
    if kind == "finished" and stage == "evaluate":
        yield Summary(training, now, _named("evaluate", event.get("metrics")))
    elif kind == "gate":
        yield Summary(training, now, {f"gates/{event.get('metric')}": float(event.get("passed") is True)})


def _named(prefix: str, metrics: object) -> dict[str, float]:
    known: Mapping[str, Any] = metrics if isinstance(metrics, dict) else {}
    return {f"{prefix}/{name}": value for name, given in known.items() if (value := finite(given)) is not None}
