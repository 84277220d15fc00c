"""Weights & Biases: a run for each training, those of one LargeForge run in one group.

The key comes from WANDB_API_KEY or ~/.netrc. The id of a run follows from its name, so a resumed
training goes on in the same one; steps that it has already are left out. Offline, each sitting leaves
a folder below the run directory, and `wandb sync` sends them in their order.
"""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from largeforge.errors import TrackingError
from largeforge.recipe.base import Extension
from largeforge.recipe.tracking import Ended, Point, Sample, Summary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from largeforge.recipe.tracking import About, File, Place, Record

INIT_TIMEOUT_S, FINISH_TIMEOUT_S = 20.0, 30.0
DEFAULT_PROJECT = "largeforge"


class Config(Extension):
    """Where and under what name."""

    name: Literal["wandb"] = "wandb"
    mode: Literal["online", "offline"] = "online"
    """`offline` writes files in the run directory, to be sent with `wandb sync`."""
    project: str = ""
    """Project; empty means WANDB_PROJECT, else largeforge."""
    entity: str = ""
    """User or team; empty means WANDB_ENTITY, else the key's own."""
    base_url: str = ""
    """Address of a server of one's own; empty means WANDB_BASE_URL, else the public one."""
    tags: list[str] = []
    """Further tags of the runs."""


def destination(config: Config, about: About, place: Place) -> str:
    """Return what tells this target from another."""
    return f"{config.mode} {config.base_url} {config.entity}/{_project(config)}"


def connect(config: Config, about: About, place: Place) -> WandbTracker:
    """Return a connection; nothing is opened before the first record."""
    return WandbTracker(config, about, place)


class WandbTracker:
    """Writes records as they come; wandb sends them in a process of its own."""

    durable = False

    def __init__(self, config: Config, about: About, place: Place):
        self._config, self._about, self._place = config, about, place
        self._runs: dict[str, Any] = {}
        self._steps: dict[str, int] = {}
        """Stage to the step that its run has reached."""
        self._samples: dict[str, list[Sample]] = {}
        """Answers of one step that are not written yet, by stage."""
        self._codes: dict[str, int] = {}

    def write(self, records: Sequence[Record]) -> None:
        """Write figures by step; what belongs to no training has no run to go to."""
        with _plainly():
            for record in records:
                if record.stage not in self._about.trainings:
                    continue
                run = self._run(record.stage)
                if isinstance(record, Point):
                    self._write_samples(record.stage, before=record.step + 1)
                    self._log(record.stage, record.step, record.time, dict(record.values))
                elif isinstance(record, Sample):
                    self._write_samples(record.stage, before=record.step)
                    self._samples.setdefault(record.stage, []).append(record)
                elif isinstance(record, Summary):
                    run.summary.update(record.values)
                elif isinstance(record, Ended):
                    self._codes[record.stage] = 0 if record.how == "finished" else 1

    def close(self, files: Sequence[File]) -> None:
        """Add the files and wait until all is written, or sent.

        Raises TrackingError when a server does not take it in time.
        """
        with _plainly():
            import wandb

            for stage in list(self._runs):
                self._write_samples(stage)
            for file in files:
                for stage, run in self._runs.items():
                    if file.stage in ("", stage):
                        run.save(str(file.path), base_path=str(file.path.parent), policy="now")
            for stage, run in self._runs.items():
                run.finish(exit_code=self._codes.get(stage, 0))
            self._runs.clear()
            wandb.teardown()  # its process writes behind; the last rows are in the file when that is gone

    def _run(self, stage: str) -> Any:
        if stage not in self._runs:
            self._runs[stage] = self._begin(stage)
            self._steps[stage] = int(self._runs[stage].step) - 1
        return self._runs[stage]

    def _begin(self, stage: str) -> Any:
        import wandb

        config, about = self._config, self._about
        if config.base_url:
            os.environ["WANDB_BASE_URL"] = config.base_url
        settings = wandb.Settings(
            reinit="create_new", console="off", silent=True, disable_git=True, save_code=False, x_disable_meta=True,
            x_disable_stats=True, init_timeout=INIT_TIMEOUT_S, finish_timeout=FINISH_TIMEOUT_S,
            finish_timeout_raises=True,
        )  # fmt: skip
        self._place.folder.mkdir(parents=True, exist_ok=True)
        return wandb.init(
            mode=config.mode, project=_project(config), entity=config.entity or None, dir=str(self._place.folder),
            id=run_id(about, stage), name=f"{about.recipe} {stage}", group=f"{about.recipe} {about.run}",
            job_type="train", notes=about.description, tags=[about.recipe[:64], *config.tags], resume="allow",
            config={**about.params_of(stage), "lock": about.lock}, settings=settings,
        )  # fmt: skip

    def _log(self, stage: str, step: int, now: float, values: dict[str, Any]) -> None:
        if step >= self._steps[stage]:  # wandb refuses to go back, as a resumed training does
            self._runs[stage].log({**values, "_timestamp": now}, step=step)
            self._steps[stage] = step

    def _write_samples(self, stage: str, *, before: int | None = None) -> None:
        """Write the answers of an earlier step as one table."""
        waiting = self._samples.get(stage, [])
        if not waiting or (before is not None and waiting[-1].step >= before):
            return
        import wandb

        rows = [[sample.step, sample.prompt, sample.text, sample.reference] for sample in waiting]
        table = wandb.Table(columns=["step", "prompt", "text", "reference"], data=rows)
        self._samples[stage] = []
        self._log(stage, waiting[-1].step, waiting[-1].time, {"samples": table})


def run_id(about: About, stage: str) -> str:
    """Return the id of a training's run: the same whenever it is written."""
    return hashlib.sha256(f"{about.recipe}/{about.run}/{about.lock}/{stage}".encode()).hexdigest()[:16]


def _project(config: Config) -> str:
    return config.project or os.environ.get("WANDB_PROJECT", "") or DEFAULT_PROJECT


@contextmanager
def _plainly() -> Iterator[None]:
    """Turn wandb's errors into ours, and keep it from chatting and from reporting its own crashes to its makers."""
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    try:
        import wandb
    except ImportError as error:
        raise TrackingError(f"{error}; it needs: pip install 'largeforge[track]'") from error
    try:
        yield
    except (wandb.Error, TimeoutError, OSError) as error:
        lines = str(error).strip().splitlines()
        raise TrackingError(lines[0] if lines else type(error).__name__) from error
