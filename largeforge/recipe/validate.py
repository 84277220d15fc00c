"""Turn composed data into a `Recipe`, or report every problem at once with its place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from largeforge.errors import Problem, RecipeError, listed, nearest
from largeforge.files import paths
from largeforge.recipe import data_paths, evaluator_files, load_file, renamed, routing_files, schema_files, sources
from largeforge.recipe.base import NAME_PATTERN, AsGiven
from largeforge.recipe.checks import check
from largeforge.recipe.packs import installed
from largeforge.recipe.schema import Recipe
from largeforge.recipe.sections.hosts import SECRET_PATTERN
from largeforge.recipe.templates import inlined
from largeforge.secrets import without_passwords

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydantic_core import ErrorDetails

    from largeforge.recipe.compose import Composition
    from largeforge.recipe.places import Places

_RECIPE_PATH = "recipe:"
_ABSENT = object()

MAX_PROBLEMS = 100
"""Problems of form that are explained at once."""


def validate(composition: Composition) -> Recipe:
    """Return the recipe of a composition, with the paths of its data made absolute.

    Raises RecipeError with every problem of form; when the form is right, with every
    problem of relation between sections.
    """
    values, places = absolute_paths(composition.values, composition.recipe_folder), composition.places
    values, unread = inlined(values, composition.recipe_folder)
    values, schemaless = schema_files.inlined(values, composition.recipe_folder)
    values, misplaced = evaluator_files.absolute(values, composition.recipe_folder)
    values, unrouted = routing_files.absolute(values, composition.recipe_folder)
    values, unloaded = load_file.absolute(values, composition.recipe_folder)
    unread = [*_paths_outside(composition.values), *unread, *schemaless, *misplaced, *unrouted, *unloaded]
    outside = [replace(p, where=places.of_key(p.key)) for p in unread]
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        problems = [explain(detail, values, places) for detail in error.errors(include_url=False)[:MAX_PROBLEMS]]
        raise RecipeError(_unique([*outside, *problems])) from None
    if outside:
        raise RecipeError(outside)
    found = [
        Problem(p.key, p.rule, places.of_key(p.key), p.given or _shown(_at(values, p.key.split("."))), p.nearest)
        for p in check(recipe)
    ]
    if found:
        raise RecipeError(_unique(found))
    return recipe


def absent(values: dict[str, Any]) -> list[list[str | int]]:
    """Return the paths of the keys that a recipe must have and that nothing gives."""
    return [_without_tags(detail["loc"], values) for detail in _details(values) if detail["type"] == "missing"]


def refused(values: dict[str, Any]) -> list[list[str | int]]:
    """Return the paths of the keys whose value has the wrong form."""
    return [_without_tags(detail["loc"], values) for detail in _details(values) if detail["type"] != "missing"]


def _details(values: dict[str, Any]) -> list[ErrorDetails]:
    try:
        Recipe.model_validate(values)
    except ValidationError as error:
        return error.errors(include_url=False)
    return []


def explain(detail: ErrorDetails, values: dict[str, Any], places: Places) -> Problem:
    """Return a Pydantic error as a problem in the words of the recipe's author."""
    path = _without_tags(detail["loc"], values)
    key = ".".join(str(part) for part in path)
    given = _shown(_at(values, path))
    kind, context = detail["type"], detail.get("ctx") or {}
    if kind == "extra_forbidden" and path == ["reward"]:
        rule = "a reward belongs to a method: +reward@method.rewards=NAME, or @jobs.JOB.method.rewards=NAME."
        return Problem(key, rule, places.of_key(key), given)
    if kind == "extra_forbidden" and (rule := renamed.told(path)):
        return Problem(key, rule, places.of_key(key), given)
    if kind == "extra_forbidden":
        allowed = _siblings(path, detail["loc"])
        rule = f"unknown key; there is: {listed(allowed)}." if allowed else "unknown key."
        return Problem(key, rule, places.of_key(key), given, nearest(str(path[-1]), allowed))
    if kind in ("union_tag_invalid", "literal_error"):
        expected = str(context.get("expected_tags") or context.get("expected") or "")
        options = [option.strip(" '") for option in expected.replace(" or ", ", ").split(",")]
        if kind == "union_tag_invalid":
            key = f"{key}.name"
            given = _shown(context.get("tag"))
        rule = f"must be one of {listed(options)}."
        return Problem(key, rule, places.of_key(key), given, nearest(given.strip("'"), options))
    if kind in ("missing", "union_tag_not_found"):
        key = key if kind == "missing" else f"{key}.name"
        return Problem(key, f"is required: give it with {key}=….", places.of_key(key))
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return Problem(key, _section_rule(path, given), places.of_key(key), given)
    if kind == "string_pattern_mismatch":
        key = key.removesuffix(".[key]")
        if context.get("pattern") == SECRET_PATTERN:  # what is given may be the secret itself
            rule = (
                "says where a secret is, and is never the secret: env:NAME, file:PATH, sops:FILE#KEY, vault:PATH#FIELD."
            )
            return Problem(key, rule, places.of_key(key))
        rule = "a name has lowercase letters, digits, - and _, and begins with a letter or digit."
        rule = rule if context.get("pattern") == NAME_PATTERN else f"must match {context.get('pattern')}."
        return Problem(key, rule, places.of_key(key), given)
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return Problem(key, f"{message}.", places.of_key(key), given)


def _section_rule(path: list[str | int], given: str) -> str:
    """Return what to write where a single value stands in place of a section."""
    group = str(path[-1])
    if group not in sources.groups():
        return "must be a section of keys."
    package = ".".join(str(part) for part in path)
    key = group if package == group else f"{group}@{package}"
    choice = given.strip("'") if given.strip("'") in sources.choices(group) else "NAME"
    return f"must be a section; to choose one by name: `- /{key}: {choice}` under defaults, or +{key}={choice}."


def absolute_paths(values: dict[str, Any], recipe_folder: str) -> dict[str, Any]:
    """Return the values with `recipe:` and relative dataset paths made absolute."""

    def absolute(path: str) -> str:
        if paths.is_remote(path):
            return path
        if path.startswith(installed.DATA) and (found := installed.data_folder(path)):
            return str(_in_recipes(found[1], found[0]))
        if path.startswith(_RECIPE_PATH):
            return str(_in_recipes(path.removeprefix(_RECIPE_PATH), Path(recipe_folder or ".")))
        return str(Path.cwd() / Path(path.removeprefix("file://")).expanduser())

    return _with_paths(values, absolute)


def _in_recipes(path: str, folder: Path) -> Path:
    """Return a path beside the recipe, or beside LargeForge's own recipes when only they have it."""
    shipped = sources.recipe_folder(None)
    return shipped / path if not _is_there(folder, path) and _is_there(shipped, path) else folder / path


def _is_there(folder: Path, path: str) -> bool:
    """Tell whether a folder has a file or folder, or files that match a pattern."""
    if (folder / path).exists() or not paths.is_pattern(path) or path.startswith("/"):
        return (folder / path).exists()
    return any(folder.glob(path))


def _paths_outside(values: dict[str, Any]) -> list[Problem]:
    """Return the `recipe:` paths that lead out of the folder of recipes."""
    found = []
    for prefix, section in _sections_with_data(values):
        for name, path in data_paths.named(section["dataset"]).items():
            if path.startswith(installed.DATA) and installed.data_folder(path) is None:
                rule = "there is no such pack, or it is not fetched: python -m largeforge packs"
                found.append(Problem(f"{prefix}dataset.{name}", f"{rule}.", given=_shown(path)))
            if path.startswith((_RECIPE_PATH, installed.DATA)):
                inside = Path(path.partition("/" if path.startswith(installed.DATA) else ":")[2])
                if inside.is_absolute() or ".." in inside.parts:
                    rule = "leads out of the folder of recipes; a path elsewhere is written without recipe:."
                    found.append(Problem(f"{prefix}dataset.{name}", rule, given=_shown(path)))
    return found


def _sections_with_data(values: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return what may hold a dataset, the top level and each job, with its prefix."""
    jobs = values.get("jobs")
    named = [(f"jobs.{name}.", job) for name, job in jobs.items()] if isinstance(jobs, dict) else []
    sections = [("", values), *named]
    return [(p, s) for p, s in sections if isinstance(s, dict) and isinstance(s.get("dataset"), dict)]


def _with_paths(values: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    def fix(section: Any) -> Any:
        if not isinstance(section, dict) or not isinstance(section.get("dataset"), dict):
            return section
        return {**section, "dataset": data_paths.changed(section["dataset"], change)}

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
    if part in extensions.KINDS and part not in extensions.KEYED:
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
    from typing import Annotated, get_args, get_origin

    from largeforge.recipe import extensions

    if part in extensions.KEYED:
        configs = {name: extensions.load(part, name).Config for name in extensions.names(part)}
        return _Items(configs)
    if get_origin(annotation) is Annotated:
        annotation, *marks = get_args(annotation)
        annotation = next((mark.model for mark in marks if isinstance(mark, AsGiven)), annotation)
    if hasattr(annotation, "model_fields"):
        return annotation
    arguments = [argument for argument in get_args(annotation) if argument is not type(None)]
    if get_origin(annotation) in (dict, list) and arguments:
        return _Items(_model_of(arguments[-1], ""))
    models = [argument for argument in arguments if hasattr(argument, "model_fields")]
    if len(models) > 1:  # extensions, by the name that tells them apart
        return {model.model_fields["name"].default: model for model in models}
    return models[0] if models else None


def _at(values: Any, path: Sequence[str | int]) -> Any:
    """Return the value at a path, or `_ABSENT`; a key may itself have dots."""
    if not path:
        return values
    if isinstance(values, list):
        index = str(path[0])
        return _at(values[int(index)], path[1:]) if index.isdigit() and int(index) < len(values) else _ABSENT
    if isinstance(values, dict):
        for length in range(len(path), 0, -1):
            key = ".".join(str(part) for part in path[:length])
            if key in values:
                return _at(values[key], path[length:])
    return _ABSENT


def _shown(value: Any) -> str:
    """Return a value as YAML has it, cut short; nothing for one that is not there."""
    if value is _ABSENT:
        return ""
    text = "{…}" if isinstance(value, dict) and value else repr(without_passwords(value))
    text = {"None": "null", "True": "true", "False": "false"}.get(text, text)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _unique(problems: list[Problem]) -> list[Problem]:
    return list(dict.fromkeys(problems))
