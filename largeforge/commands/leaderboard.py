"""Show the trials of a sweep, the best first, also while it runs.

Writes the sweep's leaderboard.csv and sweep.html anew. Examples:

  python -m largeforge leaderboard                              the newest sweep below runs/
  python -m largeforge leaderboard runs/sweeps/tiny/57ca1394    one of them; the start of its name is enough
  python -m largeforge leaderboard --list                       all sweeps
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("sweep", nargs="?", default="", help="folder of a sweep, or the start of its name; the newest")
    parser.add_argument("--root", default="runs", help="folder of all runs (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="list the sweeps instead")


def run(arguments: argparse.Namespace) -> int:
    """Print the leaderboard; 0 when every trial is done, else 1."""
    from largeforge.sweep.command import show
    from largeforge.sweep.folder import Folder, find

    root = Path(arguments.root).expanduser().absolute()
    if arguments.list:
        return _list(root)
    folder: Folder = find(arguments.sweep, root)
    about, trials = folder.about(), folder.shown_trials()
    show(folder, about, trials=trials)
    if folder.is_held():
        print("It is running now.")
    return 0 if len(trials) == about.num_trials and all(trial.state == "done" for trial in trials) else 1


def _list(root: Path) -> int:
    from largeforge.runs import relative
    from largeforge.sweep.folder import Folder, all_sweeps
    from largeforge.sweep.leaderboard import counts

    for path in all_sweeps(root):
        folder = Folder(path)
        about = folder.about()
        state = "running" if folder.is_held() else ""
        print(f"{relative(path)}  {counts(folder.shown_trials())} of {about.num_trials}  {state}".rstrip())
    return 0
