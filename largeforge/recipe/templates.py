"""Chat templates that a recipe gives its models: a path in the YAML, the template's text in the recipe.

With the text in the recipe, what is locked, fingerprinted and handed to stages is the template itself, and a run can
be reproduced without the file. A value with `{{` or `{%` is text already.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from largeforge.errors import Problem
from largeforge.recipe import sources
from largeforge.recipe.packs import installed

MAX_BYTES = 2**20
"""Longest template that is read; the longest of known models has 20 KB."""
_RECIPE = "recipe:"
_KEY = "chat_template"
_GENERATION = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")
"""Tags that transformers adds to Jinja."""


def inlined(values: dict[str, Any], recipe_folder: str) -> tuple[dict[str, Any], list[Problem]]:
    """Return composed values with the text of templates instead of their paths, and what is wrong with them."""
    problems: list[Problem] = []

    def fix(section: Any, key: str) -> Any:
        given = section.get(_KEY) if isinstance(section, dict) else None
        if not isinstance(given, str) or not given:
            return section
        try:
            text = given if is_text(given) else _read(given, recipe_folder)
            _compile(text)
        except ValueError as error:
            shown = repr(given if len(given) < 80 else f"{given[:77]}...")
            problems.append(Problem(f"{key}.{_KEY}", f"{error}.", given=shown))
            return section
        return {**section, _KEY: text}

    found = dict(values)
    if "model" in found:
        found["model"] = fix(found["model"], "model")
    jobs, models = found.get("jobs"), found.get("models")
    if isinstance(jobs, dict):
        found["jobs"] = {
            name: {**job, "model": fix(job["model"], f"jobs.{name}.model")}
            if isinstance(job, dict) and "model" in job
            else job
            for name, job in jobs.items()
        }
    if isinstance(models, dict):
        found["models"] = {name: fix(model, f"models.{name}") for name, model in models.items()}
    return found, problems


def is_text(value: str) -> bool:
    """Tell whether a value is a template rather than the path of one."""
    return "{{" in value or "{%" in value


def _read(given: str, recipe_folder: str) -> str:
    """Return the text of a template file; raises ValueError with what is wrong about it."""
    path = path_of(given, recipe_folder)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path} is no chat template: it has more than {MAX_BYTES // 2**20} MiB")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no chat template: it is not text") from None
    if not is_text(text):
        raise ValueError(f"{path} is no chat template: it has neither {{{{ nor {{%")
    return text


def path_of(given: str, recipe_folder: str) -> Path:
    """Return the place of a file that a recipe names; raises ValueError where it leads out of the recipes."""
    prefix = installed.DATA if given.startswith(installed.DATA) else _RECIPE if given.startswith(_RECIPE) else ""
    if not prefix:
        return Path.cwd() / Path(given).expanduser()
    if prefix == installed.DATA:
        found = installed.data_folder(given)
        if found is None:
            raise ValueError("there is no such pack, or it is not fetched: python -m largeforge packs")
        folder, inside = found
    else:
        folder, inside = Path(recipe_folder or "."), given.removeprefix(prefix)
    if Path(inside).is_absolute() or ".." in Path(inside).parts:
        raise ValueError("leads out of the folder of recipes; a path elsewhere is written without recipe:")
    shipped = sources.recipe_folder(None) / inside
    return shipped if shipped.is_file() and not (folder / inside).exists() else folder / inside


def _compile(text: str) -> None:
    """Raise ValueError with the line where a template is not Jinja."""
    try:
        import jinja2
    except ImportError:  # only a plan is made here
        return
    try:
        jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(_GENERATION.sub("", text))
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"is no Jinja template, line {error.lineno}: {error.message}") from None
