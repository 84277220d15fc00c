"""`python -m largeforge -m …`: plan every trial, run those that are not finished, show what came out."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from largeforge.errors import Interrupted, LargeForgeError, RecipeError
from largeforge.preflight import run as preflight
from largeforge.runs import relative
from largeforge.signals import Signals
from largeforge.sweep import leaderboard, page, plan_view, tracking
from largeforge.sweep.folder import FINISHED, About, Folder, Trial
from largeforge.sweep.objective import choose
from largeforge.sweep.prepare import Planned, plan_trial
from largeforge.sweep.request import Request, read_request
from largeforge.sweep.scheduler import Scheduler
from largeforge.sweep.slots import Slot, slots, this_machine, words
from largeforge.sweep.source import Listed, Sampled, Source, num_trials, to_check
from largeforge.sweep.view import make_view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.recipe.schema import Registry


def sweep(typed: Sequence[str]) -> int:
    """Run a sweep, or continue it; return the exit code.

    0: every trial is done. 1: some failed, were refused by a gate, or are invalid. 2: the words are
    wrong, or no trial is valid; with mode=plan also when one is invalid. 130: interrupted.
    """
    request = read_request(typed)
    folder = Folder(request.folder)
    before = _recorded(folder)
    total = num_trials(request)
    first = _first_valid(request)
    share = _share(request, first, before, total)
    checked = _planned(request, share, total)
    about = _about(request, checked, share, total)
    if request.is_plan:
        places = _room(checked, total, request.settings.jobs)
        return plan_view.show(request, checked, about, places, folder)
    assert first.plan is not None
    for warning in preflight.require(first.plan):
        print(f"warning: {warning}", file=sys.stderr)
    with folder.held():
        folder.describe(about)
        return _run(request, folder, about, checked)


def show(folder: Folder, about: About, *, trials: Sequence[Trial]) -> None:
    """Write CSV and page, and print the leaderboard."""
    from rich.console import Console

    entries = leaderboard.rank(trials, about)
    leaderboard.write_csv(folder.path / leaderboard.CSV, entries, about)
    shown = page.write(folder, entries, about)
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    leaderboard.print_leaderboard(console, entries, about, relative(shown))


def _recorded(folder: Folder) -> About | None:
    try:
        return folder.about()
    except LargeForgeError:
        return None


def _first_valid(request: Request) -> Planned:
    """Return the first trial that is valid, planned with the whole machine.

    Raises RecipeError with what is wrong when none is.
    """
    problems: dict[str, None] = {}
    for number, values in to_check(request):
        planned = plan_trial(request, number, values)
        if planned.plan is not None:
            return planned
        problems[planned.problem] = None
    told = "\n".join(list(problems)[:5])
    raise RecipeError(f"none of the trials is valid:\n{told}")


def _share(request: Request, first: Planned, before: About | None, total: int) -> tuple[str, ...]:
    """Return the words that hold each trial to its share; those of before, so that finished trials stay valid."""
    jobs = request.settings.jobs
    if before is not None and before.jobs == jobs:
        return before.share
    assert first.plan is not None
    return tuple(words(first.plan, _room([first], total, jobs)))


def _room(checked: Sequence[Planned], total: int, jobs: int) -> list[Slot]:
    """Return the room for these trials on this machine, now; the largest of them says how much memory each gets."""
    plan = next(planned.plan for planned in checked if planned.plan is not None)
    return slots(plan, total, jobs, this_machine(), memory_gib=max(planned.peak_gib for planned in checked))


def _planned(request: Request, share: tuple[str, ...], total: int) -> list[Planned]:
    from rich.console import Console

    with Console(stderr=True).status(f"planning {total} trials"):
        return [plan_trial(request, number, values, share=share) for number, values in to_check(request)]


def _about(request: Request, checked: list[Planned], share: tuple[str, ...], total: int) -> About:
    recipes = [planned.recipe for planned in checked if planned.recipe is not None]
    objective, direction = choose(recipes, request.settings, [space.key for space in request.spaces])
    return About(
        recipe=request.recipe, words=request.words, spaces=request.spaces, objective=objective, direction=direction,
        num_trials=total, digest=request.digest, jobs=request.settings.jobs, share=share,
    )  # fmt: skip


def _run(request: Request, folder: Folder, about: About, checked: list[Planned]) -> int:
    known = {trial.number: trial for trial in folder.shown_trials()}
    source, kept = _source(request, about, checked, known)
    for trial in known.values():
        if trial.state == "invalid":
            folder.write(trial)
    places = _room(checked, about.num_trials, request.settings.jobs)
    plan_view.announce(request, about, checked, kept, places, folder)
    interrupted: LargeForgeError | None = None

    def changed() -> None:
        entries = leaderboard.rank(list(known.values()), about)
        leaderboard.write_csv(folder.path / leaderboard.CSV, entries, about)
        page.write(folder, entries, about)

    try:
        with Signals() as signals, make_view(about.num_trials, about.objective, known) as view:
            Scheduler(folder, source, places, known, view, changed).run(signals)
    except Interrupted as error:
        interrupted = error
    trials = list(known.values())
    show(folder, about, trials=trials)
    if interrupted is not None:
        print(f"{interrupted}:\n  {shlex.join(['python', '-m', 'largeforge', '-m', *request.words])}", file=sys.stderr)
        return interrupted.exit_code
    if problem := tracking.record(folder, _registry(checked)):
        print(f"warning: the sweep could not be written to MLflow: {problem}", file=sys.stderr)
    return 0 if all(trial.state == "done" for trial in trials) else 1


def _registry(checked: Sequence[Planned]) -> Registry:
    return next(planned.recipe for planned in checked if planned.recipe is not None).registry


def _source(
    request: Request, about: About, checked: list[Planned], known: dict[int, Trial]
) -> tuple[Source, list[Trial]]:
    """Return what is to be run, and the trials whose results still hold; `known` keeps only trials of this sweep."""
    if request.settings.name == "grid":
        for number in set(known) - {planned.number for planned in checked}:
            del known[number]
        again = [planned for planned in checked if not _holds(request, known.get(planned.number), planned.values)]
    else:
        stale = [
            trial for trial in known.values() if trial.state != "invalid" and not _holds(request, trial, trial.values)
        ]
        again = [plan_trial(request, trial.number, trial.values, share=about.share) for trial in stale]
    to_run = {planned.number for planned in again}
    kept = [trial for trial in known.values() if trial.number not in to_run]
    for number in to_run & set(known):  # their old results count no longer
        known[number] = replace(known[number], state="interrupted", metrics={}, reason="")
    if request.settings.name == "grid":
        for planned in again:
            if planned.problem:
                reason = planned.problem
                known[planned.number] = Trial(planned.number, planned.values, planned.words, "invalid", reason=reason)
        return Listed(planned for planned in again if not planned.problem), kept
    return Sampled(request, again, about.share, objective=about.objective, direction=about.direction), kept


def _holds(request: Request, trial: Trial | None, values: dict[str, str]) -> bool:
    """Tell whether a recorded trial has these values, is finished, and would be planned today as it was then."""
    if trial is None or trial.state not in FINISHED or trial.values != values:
        return False
    share = trial.words[len(request.trial_words(trial.values)) :]
    return plan_trial(request, trial.number, trial.values, share=share).digest == trial.digest
