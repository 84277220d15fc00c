"""End what a run has on hosts; checkpoints stay there, and the run's own command continues from them.

  python -m largeforge cancel runs/support_bot/20260101T120000-ab12cd34     a run
  python -m largeforge cancel support_bot                                   the newest run of a recipe
  python -m largeforge cancel support_bot --forget                          also give up its checkpoints there

A stage that is told to end saves a checkpoint first. --forget needs no host: the next attempt begins anew, on any host.
Exit codes: 0 nothing of the run is on a host any more, 1 a host could not be reached.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from largeforge.onhosts.finding import Seated


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("run", help="folder of a run, or the name of a recipe for its newest run")
    parser.add_argument("--runs", default="runs", metavar="FOLDER", help="folder of all runs (default: runs)")
    parser.add_argument("--forget", action="store_true", help="give up its checkpoints on hosts, reached or not")


def run(arguments: argparse.Namespace) -> int:
    """End them; return 1 when a host could not be reached."""
    from largeforge.onhosts import place
    from largeforge.onhosts.finding import run_folder, seated

    folder = run_folder(arguments.run, Path(arguments.runs))
    stages = seated(folder)
    if not stages:
        print("no stage of this run is on a host")
    with ThreadPoolExecutor(max(1, len(stages))) as pool:  # side by side: hosts that train together end together
        told = list(pool.map(lambda stage: _ended(stage, forget=arguments.forget), stages))
    if arguments.forget:
        for stage in stages:
            place.forget(stage.folder)
    return 0 if all(told) else 1


def _ended(stage: Seated, *, forget: bool) -> bool:
    """End one stage and say what became of it."""
    from largeforge.errors import DeployError

    name, host = stage.task.stage, stage.seat.host
    try:
        with stage.host() as reached:
            said = reached.ask("cancel", base=reached.base, id=stage.seat.job)
            if forget:
                reached.ask("remove", base=reached.base, id=stage.seat.job)
    except DeployError as error:
        print(f"{name}  {error}", file=sys.stderr)
        return False
    before, after = said["before"], said["after"]
    kept = (
        f", checkpoint-{after['checkpoints'][0]} is kept there" if after and after["checkpoints"] and not forget else ""
    )
    ran = "ended" if before and before["active"] else "did not run any more"
    print(f"{name}  {ran} on {host}{kept}")
    return True
