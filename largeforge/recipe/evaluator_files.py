"""Files that evaluators name, rows of their own and folders of tasks: their paths made absolute."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeforge.artifacts import digest
from largeforge.cache import cached_sha256
from largeforge.errors import Problem
from largeforge.recipe.templates import path_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.recipe.schema import Job, Recipe

KEYS = ("path", "include_path")


def absolute(values: dict[str, Any], recipe_folder: str) -> tuple[dict[str, Any], list[Problem]]:
    """Return composed values with the paths of evaluators made absolute, and what is wrong with them."""
    problems: list[Problem] = []

    def fix(evaluator: Any, key: str) -> Any:
        if not isinstance(evaluator, dict):
            return evaluator
        found = dict(evaluator)
        for name in KEYS:
            if isinstance(given := found.get(name), str) and given:
                try:
                    found[name] = str(path_of(given, recipe_folder))
                except ValueError as error:
                    problems.append(Problem(f"{key}.{name}", f"{error}.", given=repr(given[:80])))
        return found

    def job(section: Any, prefix: str) -> Any:
        if not isinstance(section, dict) or not isinstance(section.get("evaluation"), dict):
            return section
        judged = {name: fix(one, f"{prefix}evaluation.{name}") for name, one in section["evaluation"].items()}
        return {**section, "evaluation": judged}

    found = job(values, "")
    if isinstance(found.get("jobs"), dict):
        found = {**found, "jobs": {name: job(section, f"jobs.{name}.") for name, section in found["jobs"].items()}}
    return found, problems


def identities(recipe: Recipe) -> dict[str, str]:
    """Return what identifies each file and folder that evaluators name; those that are missing are left out.

    Of a file it is its sha256, of a folder a digest of the names and sha256 of all its files.
    """
    paths = {path for job in recipe.training_jobs.values() for path in of_job(job)}
    return {path: found for path in sorted(paths) if (found := _identity(Path(path)))}


def of_job(job: Job) -> Iterator[str]:
    """Yield the files and folders that the evaluators of a job name."""
    for evaluator in job.evaluation.values():
        yield from (path for name in KEYS if (path := getattr(evaluator, name, "")))


def _identity(path: Path) -> str:
    try:
        if path.is_file():
            return cached_sha256(path)
        files = sorted(one for one in path.rglob("*") if one.is_file() and "__pycache__" not in one.parts)
        return digest([[one.relative_to(path).as_posix(), cached_sha256(one)] for one in files]) if files else ""
    except OSError:
        return ""  # the check before the run, and the stage, say why
