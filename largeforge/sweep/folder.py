"""A sweep's directory: what was asked for, and what is known of each trial; written atomically.

runs/sweeps/<recipe>/<digest>/
    sweep.json            words, keys, objective
    trials/<number>/      trial.json events.jsonl log.txt
    leaderboard.csv sweep.html mlflow.json mlflow.log

A trial whose record says `running` while nobody holds the sweep was cut off.
"""

from __future__ import annotations

import fcntl
import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from largeforge import artifacts
from largeforge.errors import StageError, listed
from largeforge.secrets import without_passwords
from largeforge.sweep.space import Space

if TYPE_CHECKING:
    from collections.abc import Iterator

State = Literal["running", "done", "refused", "failed", "invalid", "interrupted"]
FINISHED = ("done", "refused")
"""States of trials that are not run again: a gate that refused will refuse again."""


@dataclass(frozen=True)
class Trial:
    """One trial, as far as it went."""

    number: int
    values: dict[str, str]
    """Key to value, as texts of the command line."""
    words: tuple[str, ...]
    """The ordinary command that runs it, without `python -m largeforge`."""
    state: State = "running"
    digest: str = ""
    """Digest of the lock that it was planned with: with another one its result is out of date."""
    metrics: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    """Why it failed, was refused, or is invalid."""
    exit_code: int | None = None
    seconds: float = 0.0
    """Working time of all its attempts."""
    started: float = 0.0
    """When it was first started, in seconds since the epoch."""
    run_dir: str = ""
    gpus: str = ""
    """GPUs that it ran on, as in CUDA_VISIBLE_DEVICES."""

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.number:03}"


@dataclass(frozen=True)
class About:
    """What a sweep is: read again by whoever shows it."""

    recipe: str
    words: tuple[str, ...]
    spaces: tuple[Space, ...]
    objective: str
    direction: str
    num_trials: int
    digest: str
    jobs: int = 0
    """`sweep.jobs` as it was given."""
    share: tuple[str, ...] = ()
    """Words that hold each trial to its share of the hardware."""

    @property
    def is_minimized(self) -> bool:
        """Whether lower values of the objective are better."""
        return self.direction == "minimize"


class Folder:
    """The files of one sweep."""

    def __init__(self, path: Path):
        self.path = path

    def trial_dir(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self.path / "trials" / f"{number:03}"

    def write(self, trial: Trial) -> None:
        """Record what is known of a trial."""
        artifacts.write_json(self.trial_dir(trial.number) / "trial.json", without_passwords(asdict(trial)))

    def trials(self) -> list[Trial]:
        """Return every recorded trial by number; one that cannot be read counts as never run."""
        found = [_trial(path) for path in sorted((self.path / "trials").glob("*/trial.json"))]
        return sorted((trial for trial in found if trial is not None), key=lambda trial: trial.number)

    def shown_trials(self) -> list[Trial]:
        """Return every recorded trial, those that were cut off as interrupted."""
        alive = self.is_held()
        return [replace(t, state="interrupted") if t.state == "running" and not alive else t for t in self.trials()]

    def describe(self, about: About) -> None:
        """Record what the sweep is."""
        artifacts.write_json(self.path / "sweep.json", without_passwords(asdict(about)))

    def about(self) -> About:
        """Return what the sweep is.

        Raises StageError for a folder that holds none.
        """
        try:
            raw: Any = json.loads((self.path / "sweep.json").read_text(encoding="utf-8"))
            spaces = tuple(Space(**{**space, "values": tuple(space["values"])}) for space in raw.pop("spaces"))
            lists = {name: tuple(raw[name]) for name in ("words", "share")}
            return About(**{**raw, **lists, "spaces": spaces})
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise StageError(f"{self.path}: not the folder of a sweep, or damaged: {error}") from None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the sweep against other processes.

        Raises StageError when another process runs it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("a") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                rule = "this sweep is running already; watch it with: python -m largeforge leaderboard"
                raise StageError(f"{rule} {self.path}") from None
            yield

    def is_held(self) -> bool:
        """Tell whether a process runs the sweep now."""
        try:
            with (self.path / ".lock").open("a") as stream:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False


def all_sweeps(root: Path) -> list[Path]:
    """Return the folders of all sweeps below a root of runs, the one written to last at first."""
    found = [path.parent for path in (root / "sweeps").glob("*/*/sweep.json")]
    return sorted(found, key=lambda path: (path / "sweep.json").stat().st_mtime, reverse=True)


def find(text: str, root: Path) -> Folder:
    """Return the sweep that a path means, or the start of its digest; without a text the newest one.

    Raises StageError when there is none, or several.
    """
    if text and Path(text).is_dir():
        return Folder(Path(text).absolute())
    every = all_sweeps(root)
    found = [path for path in every if path.name.startswith(Path(text).name)] if text else every[:1]
    if len(found) == 1:
        return Folder(found[0])
    if found:
        raise StageError(f"{text!r} means several sweeps: {', '.join(path.name for path in found)}")
    if text:
        raise StageError(f"no sweep {text!r} below {root}; there is: {listed(path.name for path in every)}")
    raise StageError(f"no sweep below {root}; start one: python -m largeforge -m +recipe=NAME key=1,2")


def _trial(path: Path) -> Trial | None:
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
        known = {item.name for item in fields(Trial)}
        trial = Trial(**{key: value for key, value in raw.items() if key in known})
        return replace(trial, words=tuple(trial.words))
    except (OSError, ValueError, TypeError, AttributeError):
        return None
