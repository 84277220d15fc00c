"""Turn composed data into a `Recipe`, or report every problem at once with its place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from largeforge.errors import Problem, RecipeError, nearest
from largeforge.recipe.checks import check
from largeforge.recipe.schema import Recipe

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from largeforge.recipe.compose import Composition
    from largeforge.recipe.places import Places


def validate(composition: Composition) -> Recipe:
    """Return the recipe of a composition, with the paths of its data made absolute.

    Raises RecipeError with every problem of form; when the form is right, with every
    problem of relation between sections.
    """
    values = absolute_paths(composition.values, composition.recipe_folder)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        problems = [explain(detail, values, composition.places) for detail in error.errors()]
        raise RecipeError(_unique(problems)) from None
    found = [
        Problem(p.key, p.rule, composition.places.of_key(p.key), p.given or _shown(_at(values, p.key)), p.nearest)
        for p in check(recipe)
    ]
    if found:
        raise RecipeError(_unique(found))
    return recipe


def explain(detail: ErrorDetails, values: dict[str, Any], places: Places) -> Problem:
    """Return a Pydantic error as a problem in the words of the recipe's author."""
    path = _without_tags(detail["loc"], values)
    key = ".".join(str(part) for part in path)
    given = _shown(_at(values, key)) if detail["type"] != "missing" else ""
    context = detail.get("ctx") or {}
    if detail["type"] == "extra_forbidden":
        allowed = _siblings(path, detail["loc"])
        rule = f"unknown key; there is: {', '.join(allowed)}." if allowed else "unknown key."
        return Problem(key, rule, places.of_key(key), given, nearest(str(path[-1]), allowed))
    if detail["type"] in ("union_tag_invalid", "literal_error"):
        expected = str(context.get("expected_tags") or context.get("expected") or "")
        options = [option.strip(" '") for option in expected.replace(" or ", ", ").split(",")]
        if detail["type"] == "union_tag_invalid":
            key = f"{key}.name"
            given = _shown(context.get("tag"))
        rule = f"must be one of {', '.join(options)}."
        return Problem(key, rule, places.of_key(key), given, nearest(given.strip("'"), options))
    if detail["type"] == "missing":
        return Problem(key, f"is required: give it with {key}=…", places.of_key(key))
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return Problem(key, f"{message}.", places.of_key(key), given)


def absolute_paths(values: dict[str, Any], recipe_folder: str) -> dict[str, Any]:
    """Return the values with `recipe:` and relative dataset paths made absolute."""

    def absolute(path: Any) -> Any:
        if not isinstance(path, str) or not path:
            return path
        if path.startswith("recipe:"):
            return str(Path(recipe_folder or ".") / path.removeprefix("recipe:"))
        return str(Path.cwd() / Path(path).expanduser())

    def fix(section: Any) -> Any:
        if not isinstance(section, dict) or not isinstance(section.get("dataset"), dict):
            return section
        dataset = {k: absolute(v) if k in ("path", "heldout_path") else v for k, v in section["dataset"].items()}
        return {**section, "dataset": dataset}

    jobs = values.get("jobs")
    result: dict[str, Any] = fix(values)
    return {**result, "jobs": {name: fix(job) for name, job in jobs.items()}} if isinstance(jobs, dict) else result


def _without_tags(loc: tuple[int | str, ...], values: dict[str, Any]) -> list[str | int]:
    """Drop the parts that Pydantic adds for a discriminated union: they are not keys."""
    path: list[str | int] = []
    node: Any = values
    for index, part in enumerate(loc):
        last = index == len(loc) - 1
        is_tag = isinstance(node, dict) and part not in node and node.get("name") == part and not last
        if is_tag:
            continue
        path.append(part)
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            node = None
    return path


def _siblings(path: list[str | int], loc: tuple[int | str, ...]) -> list[str]:
    """Return the keys that are allowed where an unknown one stands."""
    model: Any = Recipe
    for part in loc[:-1]:
        model = _descend(model, part)
        if model is None:
            return []
    return sorted(getattr(model, "model_fields", {}))


def _descend(model: Any, part: int | str) -> Any:
    from largeforge.recipe import extensions

    if isinstance(model, dict):  # the configs of a union, by tag
        return model.get(part)
    if model == "mapping":
        return None
    field = getattr(model, "model_fields", {}).get(part)
    if field is None:
        return _item_model(model, part)
    if part in extensions.KINDS and part != "evaluation":
        configs = {name: extensions.load(str(part), name).Config for name in extensions.names(str(part))}
        return configs if len(configs) > 1 else next(iter(configs.values()))
    return _model_of(field.annotation, str(part))


class _Items:
    """Values of a mapping or list field, whatever their key."""

    def __init__(self, model: Any):
        self.model = model


def _item_model(model: Any, part: int | str) -> Any:
    return model.model if isinstance(model, _Items) else None


def _model_of(annotation: Any, part: str) -> Any:
    from typing import get_args, get_origin

    from largeforge.recipe import extensions

    if part == "evaluation":
        configs = {name: extensions.load(part, name).Config for name in extensions.names(part)}
        return _Items(configs)
    if hasattr(annotation, "model_fields"):
        return annotation
    arguments = [argument for argument in get_args(annotation) if argument is not type(None)]
    if get_origin(annotation) in (dict, list) and arguments:
        return _Items(_model_of(arguments[-1], ""))
    models = [argument for argument in arguments if hasattr(argument, "model_fields")]
    return models[0] if models else None


def _at(values: Any, key: str) -> Any:
    for part in key.split("."):
        if isinstance(values, dict) and part in values:
            values = values[part]
        elif isinstance(values, list) and part.isdigit() and int(part) < len(values):
            values = values[int(part)]
        else:
            return None
    return values


def _shown(value: Any) -> str:
    text = repr(value)
    return "" if value is None else text if len(text) <= 80 else f"{text[:77]}..."


def _unique(problems: list[Problem]) -> list[Problem]:
    return list(dict.fromkeys(problems))
