"""The errors that LargeForge raises on purpose, and the exit code that each one means.

A user's mistake is never a stack trace: `cli.py` prints the message of these and exits with
`exit_code`. Everything else is a bug in LargeForge and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class LargeForgeError(Exception):
    """Base of the tree; `exit_code` is what the command line returns for it."""

    exit_code = 1
    was_shown = False
    """Whether a `run_failed` event carried the message to whoever watches."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a recipe: where, what was given, what is allowed."""

    key: str
    rule: str
    where: str = ""
    given: str = ""
    nearest: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        given = f" = {self.given}" if self.given else ""
        hint = f" Did you mean '{self.nearest}'?" if self.nearest else ""
        return f"{place}{self.key}{given}: {self.rule}{hint}"


class RecipeError(LargeForgeError, ValueError):
    """The recipe or the command line is wrong; carries every problem found, not just the first."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem] | str):
        self.problems = [Problem("recipe", problems)] if isinstance(problems, str) else list(problems)
        if isinstance(problems, str):
            super().__init__(problems)
            return
        count = len(self.problems)
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} in the recipe:\n{lines}")


class PackError(LargeForgeError, ValueError):
    """A pack of recipes is declared wrongly, breaks the rules for packs, or is not what the lock says."""

    exit_code = 2


class FetchError(PackError):
    """Git could not bring a pack; what was fetched before is kept."""

    exit_code = 1


class PreflightError(LargeForgeError, RuntimeError):
    """This machine cannot carry out the plan as it is; each error is one line with its cure."""

    exit_code = 2

    def __init__(self, errors: Sequence[str], warnings: Sequence[str] = ()):
        self.errors, self.warnings = list(errors), list(warnings)
        lines = [*(f"  - {line}" for line in errors), *(f"  - (warning) {line}" for line in warnings)]
        count = f"{len(self.errors)} problem{'s' if len(self.errors) != 1 else ''}"
        super().__init__("\n".join([f"{count} on this machine, nothing was started:", *lines]))


class FitError(LargeForgeError, ValueError):
    """A stage would not fit into the machine's memory; says what would make it fit."""

    exit_code = 2


class DataError(LargeForgeError, ValueError):
    """A dataset cannot be used: names file, line and reason."""

    exit_code = 2


class ModelError(LargeForgeError, ValueError):
    """A model folder or reference cannot be used."""


class StageError(LargeForgeError, RuntimeError):
    """A stage failed; what was finished before it is kept."""

    reason = ""
    """What happened in one word, for programs: `out_of_memory`, `nan`, `disk`; empty for anything else."""


class BuildError(LargeForgeError, RuntimeError):
    """An environment of pinned packages could not be built, or is not what it was."""


class GateError(LargeForgeError):
    """A gate of the recipe refused to go on."""

    exit_code = 3


class ServingError(LargeForgeError, RuntimeError):
    """A server did not start, died, or did not answer."""


class SecretError(LargeForgeError, LookupError):
    """A secret is not where its reference says; the message never holds one."""

    exit_code = 2


class DeployError(LargeForgeError, RuntimeError):
    """Hosts could not be brought to what the recipe says; what served before serves, unless the message says more."""


class LoadTestError(LargeForgeError, RuntimeError):
    """A load test could not be carried out; what was measured before it is kept in the events."""


class RegistryError(LargeForgeError, LookupError):
    """A registered model, version or alias is not there, or does not verify."""


class TrackingError(LargeForgeError, RuntimeError):
    """A tracker did not take what it was given; the run directory has it all, and it can be tried again."""


class ClientError(LargeForgeError, RuntimeError):
    """The gateway refused a request or could not be reached."""


class Interrupted(LargeForgeError):
    """The user stopped the run."""

    exit_code = 130


def nearest(given: str, allowed: Iterable[str]) -> str:
    """Return the allowed name closest to `given`, or an empty string when none is close."""
    matches = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.6)
    return matches[0] if matches else ""


def listed(names: Iterable[str], limit: int = 30) -> str:
    """Return names as text for a message: all of them, or the first ones and how many more there are."""
    found = list(names)
    more = f" and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(found[:limit]) + more if found else "none"
