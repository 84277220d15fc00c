"""Compare two runs, registered models, recipes or locks: the likely cause of a difference first.

Each side is a run directory, the digest of a run, latest:RECIPE, registry:NAME@ALIAS, a lock.json,
or a recipe by name, with overrides if it is quoted.

    python -m largeforge diff latest:my_expert my_expert
    python -m largeforge diff registry:my-expert/1 registry:my-expert/2
    python -m largeforge diff quickstart "quickstart seed=1" --json

Exit codes: 0 the same, 1 they differ, 2 one of them cannot be read. Where and when runs were made, and
how long they took, is shown and does not count.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from largeforge.errors import LargeForgeError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the two sides and where to look for them."""
    parser.add_argument("a", metavar="A", help="a run, a registered model, a recipe or a lock")
    parser.add_argument("b", metavar="B", help="what to compare it with")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    parser.add_argument("--runs", default="runs", metavar="FOLDER", help="folder of all runs (default: runs)")
    parser.add_argument("--registry", metavar="URI", help="MLflow registry URI (default: that of conf/registry/local)")
    parser.add_argument("--artifacts", metavar="FOLDER", help="files of the registry (default: registry/artifacts)")


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison; return 0 when both sides are the same, else 1."""
    import json

    from largeforge.compare.differences import compare
    from largeforge.compare.sides import side
    from largeforge.compare.view import as_dict, render
    from largeforge.recipe.schema import Registry

    given = {"uri": arguments.registry, "artifacts": arguments.artifacts}
    registry = Registry(**{key: text for key, text in given.items() if text})
    try:
        sides = [side(text, root=Path(arguments.runs), registry=registry) for text in (arguments.a, arguments.b)]
    except LargeForgeError as error:
        error.exit_code = 2
        raise
    found = compare(*sides)
    if arguments.json:
        print(json.dumps(as_dict(found), indent=2, ensure_ascii=False))
    else:
        from rich.console import Console

        Console().print(render(found), highlight=False)
    return 0 if found.same else 1
