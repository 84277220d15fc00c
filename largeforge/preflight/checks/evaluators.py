"""Files of evaluators are there, the keys of judges are set, and lm-eval is installed where it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge.preflight.finding import Finding, error, ok, skipped

if TYPE_CHECKING:
    from largeforge.plan import Stage
    from largeforge.preflight.context import Context

QUICK = True


def check(context: Context) -> Iterator[Finding]:
    """Look at what evaluators will need after the training, while there is still time."""
    stages = [stage for stage in context.pending if stage.kind == "evaluate"]
    if not stages:
        yield skipped("nothing is still to be evaluated")
        return
    found = [finding for stage in stages for finding in _missing(stage, context)]
    yield from found
    if not found:
        yield ok("evaluators have their files and keys")


def _missing(stage: Stage, context: Context) -> Iterator[Finding]:
    prefix = f"jobs.{stage.job}." if context.recipe and context.recipe.jobs else ""
    for key, evaluator in stage.config["evaluation"].items():
        place = f"{prefix}evaluation.{key}"
        for name in ("path", "include_path"):
            if (given := evaluator.get(name)) and not Path(given).exists():
                yield error(f"{place}.{name}: there is no {given}", f"{place}.{name}=FILE")
        variable = evaluator.get("api_key_env")
        if variable and not context.environ.get(variable):
            yield error(f"{place}: the variable {variable} of the environment is not set", f"export {variable}=…")
        if evaluator["name"] == "lm_eval" and find_spec("lm_eval") is None:
            yield error(f"{place}: lm-eval is not installed", "pip install 'largeforge[eval]'")
