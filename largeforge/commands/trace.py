"""From a served answer back to how its model was made: run, recipe, commit, data, gate report, versions.

Answers of the gateway carry the digest of a lock (`x-largeforge-lock`); its first 8 characters are enough. The id of a
request (`x-request-id`) works where the gateway ran, and a registered version does too.

  python -m largeforge trace 57ca13945b0d
  python -m largeforge trace 4f1a6c0e9b7d4c52a3f8e1d20b6c7a95
  python -m largeforge trace registry:support-bot@champion
  python -m largeforge trace 57ca1394 registry.uri=http://mlflow.example:5000 --json

Exit codes: 0 found, 1 the registry cannot be read, 2 it leads nowhere.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to trace and where to look."""
    parser.add_argument(
        "words",
        nargs="+",
        metavar="LOCK registry.key=value",
        help="digest of a lock, id of a request, or registry:NAME",
    )
    parser.add_argument("--runs", default="runs", metavar="FOLDER", help="folder of all runs (default: runs)")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def run(arguments: argparse.Namespace) -> int:
    """Print what is known of the lock."""
    from largeforge.catalog import tables, tracing
    from largeforge.catalog.words import settings
    from largeforge.errors import RecipeError
    from largeforge.registry import ModelRegistry

    texts = [word for word in arguments.words if "=" not in word]
    if len(texts) != 1:
        raise RecipeError(f"give one lock digest, request or registered version; given: {', '.join(texts) or 'none'}")
    registry = ModelRegistry(settings([word for word in arguments.words if "=" in word]))
    found = tracing.trace(texts[0], tracing.Places(Path(arguments.runs).expanduser(), registry))
    if arguments.json:
        print(json.dumps(tracing.as_dict(found), indent=2, ensure_ascii=False))
    else:
        tables.console().print(tables.trace(found), highlight=False, crop=False)
    return 0
