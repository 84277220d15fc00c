"""JSON Schemas that rewards and evaluators name by path: a path in the YAML, the schema itself in the recipe.

With the schema in the recipe, what is locked, fingerprinted and handed to stages is the schema, and a run can be
reproduced without the file.
"""

from __future__ import annotations

import json
from typing import Any

from largeforge.errors import Problem
from largeforge.recipe.templates import path_of

MAX_BYTES = 2**20
"""Longest schema that is read."""
_KEY = "definition"


def inlined(values: dict[str, Any], recipe_folder: str) -> tuple[dict[str, Any], list[Problem]]:
    """Return composed values with schemas instead of their paths, and what is wrong with them."""
    problems: list[Problem] = []

    def fix(reward: Any, key: str) -> Any:
        given = reward.get(_KEY) if isinstance(reward, dict) else None
        if not isinstance(given, str):
            return reward
        try:
            return {**reward, _KEY: _read(given, recipe_folder) if given else {}}
        except ValueError as error:
            problems.append(Problem(f"{key}.{_KEY}", f"{error}.", given=repr(given[:80])))
            return {**reward, _KEY: {}}

    def with_rewards(holder: Any, key: str) -> Any:
        rewards = holder.get("rewards") if isinstance(holder, dict) else None
        if not isinstance(rewards, dict):
            return holder
        return {**holder, "rewards": {name: fix(one, f"{key}.rewards.{name}") for name, one in rewards.items()}}

    def job(section: Any, prefix: str) -> Any:
        if not isinstance(section, dict):
            return section
        found = (
            {**section, "method": with_rewards(section["method"], f"{prefix}method")}
            if "method" in section
            else section
        )
        if isinstance(found.get("evaluation"), dict):
            judged = {
                name: with_rewards(fix(evaluator, f"{prefix}evaluation.{name}"), f"{prefix}evaluation.{name}")
                for name, evaluator in found["evaluation"].items()
            }
            found = {**found, "evaluation": judged}
        return found

    found = job(values, "")
    if isinstance(found.get("jobs"), dict):
        found = {**found, "jobs": {name: job(section, f"jobs.{name}.") for name, section in found["jobs"].items()}}
    return found, problems


def _read(given: str, recipe_folder: str) -> dict[str, Any]:
    """Return the schema in a file; raises ValueError with what is wrong about it."""
    path = path_of(given, recipe_folder)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path} is no JSON Schema: it has more than {MAX_BYTES // 2**20} MiB")
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no JSON Schema: it is not an object")
    return found
