"""`scripts/setup`: create `.venv` with everything that LargeForge needs, or find that it is up to date.

Run by any Python 3.11 to 3.14 without packages. Progress goes to the standard error.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
from pathlib import Path

from scripts.environment.build import SetupError, bring_up_to_date
from scripts.environment.pins import TORCH_CPU_INDEX
from scripts.environment.progress import say

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Set up and return the exit code: 0 ready, 1 something is missing or failed, 130 interrupted."""
    options = _parser().parse_args()
    os.environ.pop("PYTHONPATH", None)  # set by scripts/setup for this process only
    try:
        with _only_one():
            bring_up_to_date(ROOT, options.venv.absolute(), device=options.device, torch_index=options.torch_index)
    except SetupError as error:
        say(f"cannot go on:\n{error}", important=True)
        return 1
    except KeyboardInterrupt:
        say("interrupted; the next run goes on from here", important=True)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    environ = os.environ
    parser = argparse.ArgumentParser(prog="scripts/setup", description=__doc__)
    parser.add_argument(
        "--venv",
        type=Path,
        default=Path(environ.get("LARGEFORGE_VENV") or ROOT / ".venv"),
        help="where the environment is (LARGEFORGE_VENV; default: .venv of the repository)",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default=environ.get("LARGEFORGE_DEVICE") or "auto",
        help="which builds of torch and vLLM (LARGEFORGE_DEVICE; default: CUDA where nvidia-smi lists a GPU)",
    )
    parser.add_argument(
        "--torch-index",
        default=environ.get("LARGEFORGE_TORCH_INDEX") or TORCH_CPU_INDEX,
        help="package index asked for the CPU build of torch where pip's own sources lack it "
        "(LARGEFORGE_TORCH_INDEX; default: %(default)s)",
    )
    return parser


class _only_one:
    """Hold a lock on the requirements folder, so that two set-ups do not write into one environment."""

    def __enter__(self) -> None:
        self._folder = os.open(ROOT / "requirements", os.O_RDONLY)
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another set-up to finish", important=True)
            fcntl.flock(self._folder, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._folder)


if __name__ == "__main__":
    sys.exit(main())
