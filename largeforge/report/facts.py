"""Turns the files of a run into what the report says: the run's outcome and its stages."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from largeforge.console.text import finite
from largeforge.report.read import mapping, sequence

if TYPE_CHECKING:
    from largeforge.report.read import Mapping, RunFiles

State = Literal["done", "reused", "failed", "unfinished", "waiting"]


@dataclass(frozen=True)
class Attempt:
    """One time that a stage ran, in seconds of the run's working time; pauses between runs do not count."""

    start: float
    end: float
    state: State


@dataclass(frozen=True)
class Stage:
    """One stage, from plan, events and manifest."""

    name: str
    kind: str = ""
    title: str = ""
    command: str = ""
    state: State = "waiting"
    attempts: list[Attempt] = field(default_factory=list)
    seconds: float | None = None
    error: str = ""
    metrics: Mapping = field(default_factory=dict)
    info: Mapping = field(default_factory=dict)
    manifest: Mapping = field(default_factory=dict)
    progress: list[Mapping] = field(default_factory=list)
    """Progress events with a loss, one a step, in order of steps."""
    evals: list[Mapping] = field(default_factory=list)
    """Evaluations during a training, one a step, in order of steps."""
    checkpoints: list[Mapping] = field(default_factory=list)
    samples: list[Mapping] = field(default_factory=list)
    """Answers during a training, one for each prompt and step, in order of steps."""
    notes: list[str] = field(default_factory=list)
    tables: list[Mapping] = field(default_factory=list)
    load_tests: list[Mapping] = field(default_factory=list)
    """Tables of load tests, with all that was measured."""
    gates: list[Mapping] = field(default_factory=list)
    regressions: list[Mapping] = field(default_factory=list)
    """Answers that are worse than a baseline's."""
    answers: list[Mapping] = field(default_factory=list)


@dataclass(frozen=True)
class Facts:
    """Everything that the report shows of a run, apart from lock and recipe."""

    recipe: str
    description: str
    run_dir: str
    digest: str
    outcome: Literal["finished", "failed", "refused by a gate", "interrupted", "unfinished"]
    error: str
    began: float | None
    """When the first attempt began, in seconds since the epoch."""
    seconds: float
    """Working time of all attempts."""
    num_attempts: int
    next: list[Mapping]
    """What to type next: `text` and `command`."""
    stages: list[Stage]


class WorkingTime:
    """Maps times to seconds of working time, so that the night before a resumption takes no room."""

    def __init__(self, all_events: list[Mapping]):
        self._attempts: list[tuple[float, float]] = []
        for event in all_events:
            now = finite(event.get("time"))
            if now is None:
                continue
            if event.get("kind") == "run_started" or not self._attempts:
                self._attempts.append((now, now))
            else:
                start, end = self._attempts[-1]
                self._attempts[-1] = (start, max(end, now))

    def __call__(self, time: float) -> float:
        before = 0.0
        for start, end in self._attempts:
            if time <= end:
                return before + max(0.0, time - start)
            before += end - start
        return before

    @property
    def total(self) -> float:
        """Seconds of all attempts together."""
        return sum(end - start for start, end in self._attempts)

    @property
    def began(self) -> float | None:
        """When the first attempt began."""
        return self._attempts[0][0] if self._attempts else None


def gather(files: RunFiles) -> Facts:
    """Return the facts of a run."""
    own = [event for event in files.events if str(event["kind"]).startswith("run_")]
    first: Mapping = next((event for event in reversed(own) if event["kind"] == "run_started"), {})
    last: Mapping = own[-1] if own else {}
    working = WorkingTime(files.events)
    stages = _stages(files, [str(name) for name in sequence(first.get("stages"))], working)
    resume = {"text": "Continue this run", "command": last.get("resume_command")}
    return Facts(
        recipe=_first_text(first.get("recipe"), files.lock.get("recipe"), files.run_dir.parent.name),
        description=_first_text(first.get("description"), files.plan.get("description")),
        run_dir=_first_text(last.get("run_dir"), first.get("run_dir"), str(files.run_dir)),
        digest=_first_text(first.get("digest"), files.lock.get("digest")),
        outcome=_outcome(last),
        error=str(last.get("error") or ""),
        began=working.began if working.began is not None else _earliest(stages),
        seconds=working.total or sum(stage.seconds or 0.0 for stage in stages),
        num_attempts=max(1, sum(event["kind"] == "run_started" for event in own)),
        next=[mapping(step) for step in sequence(last.get("next"))] or ([resume] if resume["command"] else []),
        stages=stages,
    )


def _first_text(*values: object) -> str:
    return next((value for value in values if isinstance(value, str) and value), "")


def _outcome(last: Mapping) -> Any:
    if last.get("kind") == "run_finished":
        return "finished"
    if last.get("kind") != "run_failed":
        return "unfinished"
    return {3: "refused by a gate", 130: "interrupted"}.get(_code(last), "failed")


def _code(event: Mapping) -> int:
    code = event.get("exit_code")
    return code if isinstance(code, int) else 1


def _stages(files: RunFiles, names: list[str], working: WorkingTime) -> list[Stage]:
    planned = {str(item["name"]): item for item in map(mapping, sequence(files.plan.get("stages"))) if item.get("name")}
    by_stage: dict[str, list[Mapping]] = {}
    for event in files.events:
        if event["stage"] != "":
            by_stage.setdefault(str(event["stage"]), []).append(event)
    ordered = dict.fromkeys([*planned, *names, *by_stage, *files.manifests])
    return [
        _stage(
            name,
            planned.get(name, {}),
            by_stage.get(name, []),
            files.recorded.get(name, []),
            files.manifests.get(name, {}),
            working,
        )
        for name in ordered
    ]


def _stage(
    name: str,
    planned: Mapping,
    own: list[Mapping],
    recorded: list[Mapping],
    manifest: Mapping,
    working: WorkingTime,
) -> Stage:
    attempt = _split(own)[-1] if own else []
    by_kind: dict[str, list[Mapping]] = {}
    is_reused = bool(manifest.get("reused_from"))
    for event in [*(recorded if is_reused else []), *attempt]:
        by_kind.setdefault(str(event["kind"]), []).append(event)
    told = recorded if is_reused else own
    begun: Mapping = (by_kind.get("started") or [{}])[0]
    ended = _end(attempt)
    result: Mapping = (by_kind.get("result") or [{}])[-1]
    seconds = finite(manifest.get("seconds"))
    return Stage(
        name=name,
        kind=str(planned.get("kind") or manifest.get("kind") or name.rpartition(".")[2]),
        title=str(begun.get("title") or planned.get("title") or ""),
        command=str(begun.get("command") or ""),
        state=_state(attempt, ended, manifest),
        attempts=_attempts(own, working),
        seconds=seconds if seconds is not None else finite(ended.get("seconds")),
        error=str(ended.get("error") or ""),
        metrics=mapping(result.get("metrics")) or mapping(manifest.get("metrics")),
        info=mapping(result.get("info")) or mapping(manifest.get("info")),
        manifest=manifest,
        progress=_steps(told, "progress"),
        evals=_steps(told, "eval"),
        checkpoints=_steps(told, "checkpoint"),
        samples=_steps(told, "sample", by="prompt"),
        notes=[str(event.get("text") or "") for event in by_kind.get("note", [])],
        tables=[event for event in by_kind.get("table", []) if "load_test" not in event],
        load_tests=[event for event in by_kind.get("table", []) if "load_test" in event],
        gates=by_kind.get("gate", []),
        regressions=by_kind.get("regression", []),
        answers=by_kind.get("answer", []),
    )


def _state(attempt: list[Mapping], ended: Mapping, manifest: Mapping) -> State:
    if ended.get("kind") == "failed":
        return "failed"
    if ended.get("reused") is True or manifest.get("reused_from"):
        return "reused"
    if ended or (manifest and not attempt):
        return "done"
    return "unfinished" if attempt else "waiting"


def _steps(told: list[Mapping], kind: str, *, by: str = "") -> list[Mapping]:
    """Keep the last event of each step: a resumed training repeats the steps after its checkpoint."""
    found: dict[tuple[float, str], Mapping] = {}
    for event in told:
        step = finite(event.get("step"))
        if event["kind"] == kind and step is not None and (kind != "progress" or "loss" in event):
            found[step, str(event.get(by)) if by else ""] = event
    return [found[key] for key in sorted(found, key=lambda key: key[0])]


def _split(own: list[Mapping]) -> list[list[Mapping]]:
    """Split a stage's events into its attempts, each from one `started` to the next."""
    starts = [index for index, event in enumerate(own) if event["kind"] == "started" and index > 0]
    return [own[start:end] for start, end in pairwise([0, *starts, len(own)])]


def _end(attempt: list[Mapping]) -> Mapping:
    return next((event for event in attempt if event["kind"] in ("finished", "failed")), {})


def _attempts(own: list[Mapping], working: WorkingTime) -> list[Attempt]:
    attempts = []
    for events in _split(own) if own else []:
        end = _end(events)
        first, last = finite(events[0].get("time")), finite((end or events[-1]).get("time"))
        if first is not None and last is not None:
            attempts.append(Attempt(working(first), working(last), _state(events, end, {})))
    return attempts


def _earliest(stages: list[Stage]) -> float | None:
    starts = [start for stage in stages if (start := _moment(stage.manifest.get("started"))) is not None]
    return min(starts, default=None)


def _moment(value: object) -> float | None:
    """Return a time given as seconds since the epoch or in ISO form."""
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value).timestamp()
        except (ValueError, OverflowError):
            return None
    return finite(value)
