"""Send a run to trackers later: after a server was down, or from a machine without a network.

Sends what was not sent yet, with the trackers of the run or those that are named; doing it twice changes
nothing. RUN is a run directory, the digest of a run or latest:RECIPE; the newest run unless given. Keys
come from WANDB_API_KEY or ~/.netrc, and MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.

  python -m largeforge track
  python -m largeforge track latest:my_expert tracking=wandb tracking.wandb.project=experts
  python -m largeforge track runs/my_expert/20260101T120000-ab12cd34 tracking=mlflow tracking.mlflow.uri=http://mlflow:5000

Exit codes: 0 all is sent, 1 a tracker did not take it, 2 there is no such run or tracker.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic_core import ErrorDetails

    from largeforge.recipe.base import Extension


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("words", nargs="*", metavar="RUN key=value", help="a run, and trackers such as tracking=wandb")
    parser.add_argument("--root", default="runs", help="folder of all runs (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Send the run to each tracker; 0 when all of them took it."""
    from largeforge.errors import RecipeError, TrackingError
    from largeforge.recorded import run_folder
    from largeforge.runs import relative
    from largeforge.secrets import without_passwords

    texts = [word for word in arguments.words if "=" not in word]
    if len(texts) > 1:
        raise RecipeError(f"one run at a time: {', '.join(texts)}")
    folder = run_folder("".join(texts), root=Path(arguments.root).expanduser().absolute())
    trackers, registry = _trackers(folder, [word for word in arguments.words if "=" in word])
    if not trackers:
        rule = "name one, such as tracking=mlflow or tracking=wandb"
        raise RecipeError(f"{relative(folder)} was run without a tracker; {rule}.")
    code = 0
    for name, config in trackers.items():
        try:
            target = _send(folder, config, registry)
            print(f"{name}: {relative(folder)} is in {without_passwords(target)}")
        except TrackingError as error:
            print(f"{name}: {without_passwords(str(error))}", file=sys.stderr)
            code = 1
    return code


def _send(folder: Path, config: Extension, registry: dict[str, Any]) -> str:
    from largeforge.tracking.upload import Upload

    upload = Upload(folder, config, registry)
    while upload.advance():
        continue
    upload.close()
    return upload.target


def _trackers(folder: Path, words: Sequence[str]) -> tuple[dict[str, Extension], dict[str, Any]]:
    """Return the trackers of a run, or those that the words choose, with the registry."""
    from pydantic import TypeAdapter, ValidationError

    from largeforge.errors import RecipeError
    from largeforge.recipe.compose import compose
    from largeforge.recipe.schema import Registry, Tracker
    from largeforge.recipe.validate import explain
    from largeforge.tracking.following import recorded

    composition = compose(["name=track", *words])
    kept = {} if words else recorded(folder)
    values = {**composition.values, **kept}
    try:
        trackers = TypeAdapter(dict[str, Tracker]).validate_python(values["tracking"])
        registry = Registry.model_validate(values["registry"])
    except ValidationError as error:
        details: list[ErrorDetails] = [
            {**detail, "loc": ("tracking", *detail["loc"])} for detail in error.errors(include_url=False)
        ]
        raise RecipeError([explain(detail, values, composition.places) for detail in details]) from None
    return trackers, registry.model_dump(mode="json")
