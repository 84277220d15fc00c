"""Files that evaluators name, rows of their own and folders of tasks: their paths made absolute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def named(recipe: Recipe) -> Iterator[str]:
    """Yield the files and folders that the evaluators of a recipe name."""
    for job in recipe.training_jobs.values():
        yield from of_job(job)


def of_job(job: Job) -> Iterator[str]:
    """Yield the files and folders that the evaluators of a job name."""
    for evaluator in job.evaluation.values():
        yield from (path for name in KEYS if (path := getattr(evaluator, name, "")))
