"""JSON Schemas (draft 2020-12) of recipes and of the choices of each group, for editors.

A YAML file here is a part that others are merged with, so nothing is required in it; any value may
be `${key}` or `???` instead. Relations between sections are not in a schema: `largeforge check`
finds those. Only keywords that mean the same in older drafts are used, which editors know better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.recipe import extensions, sources
from largeforge.recipe.schema import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Schema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"

_REFERENCE = {
    "type": "string",
    "pattern": r"^(\?\?\?|[^$]*\$\{[\w.-]+\}[^$]*)$",
    "description": "A reference to another key, such as `${name}`, or `???` for what the command line must give.",
    "patternErrorMessage": "Not one of the allowed values, nor a reference to another key such as ${name}.",
}
_TO_REFERENCE = {"$ref": "#/$defs/reference"}
_DROPPED = ("title", "required", "discriminator")
_NESTED = ("properties", "patternProperties", "$defs")
_SCALARS = ("integer", "number", "boolean")


def schemas() -> dict[str, Schema]:
    """Return the schema of recipes as `recipe`, and by group those of its choices.

    The choices that exist, also in the working directory, are part of them. A group that is no
    section of a recipe, as a user's own may be, has no schema.
    """
    whole = _part(_renamed(Recipe.model_json_schema()))
    definitions = {**whole.pop("$defs"), **_choice_definitions(), "reference": _REFERENCE}
    found = {"recipe": _recipe(whole)}
    sections = {**whole["properties"], "reward": definitions["method.grpo"]["properties"]["rewards"]}
    found |= {group: _choice(group, sections[group], definitions) for group in sources.groups() if group in sections}
    return {name: _complete(name, schema, definitions) for name, schema in found.items()}


def _renamed(node: Any) -> Any:
    """Return Pydantic's schema with `method.sft` for `largeforge__methods__sft__Config`."""
    if isinstance(node, list):
        return [_renamed(item) for item in node]
    if not isinstance(node, dict):
        return _short(node.removeprefix("#/$defs/"), "#/$defs/") if _is_pointer(node) else node
    return {_short(key): _renamed(value) for key, value in node.items()}


def _is_pointer(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("#/$defs/")


def _short(name: str, prefix: str = "") -> str:
    for kind, package in extensions.KINDS.items():
        start = f"{package.replace('.', '__')}__"
        if name.startswith(start):
            return f"{prefix}{kind}.{name.removeprefix(start).removesuffix('__Config')}"
    return f"{prefix}{name}"


def _part(schema: Schema) -> Schema:
    """Return the schema of a part of what `schema` describes, with references for values."""
    result = {key: value for key, value in schema.items() if key not in _DROPPED}
    if isinstance(result.get("default", ""), dict | list | None):
        result.pop("default", None)
    if "oneOf" in result:
        result["anyOf"] = result.pop("oneOf")
    if "anyOf" in result:
        result["anyOf"] = _flat([_part(item) for item in result["anyOf"]])
    for key in _NESTED:
        if key in result:
            change = _part if key == "$defs" else _value
            result[key] = {name: change(item) for name, item in result[key].items()}
    for key in ("additionalProperties", "items"):
        if isinstance(result.get(key), dict):
            result[key] = _value(result[key])
    if "patternProperties" in result:
        result.setdefault("additionalProperties", False)
    return result


def _flat(options: list[Schema]) -> list[Schema]:
    """Return the options with those of an option that is itself nothing but `anyOf` in its place."""
    return [inner for option in options for inner in (option["anyOf"] if set(option) == {"anyOf"} else [option])]


def _value(schema: Schema) -> Schema:
    """Return the schema of a value that may also be a reference."""
    result = _part(schema)
    if result.get("type") in _SCALARS:  # keywords for numbers do not count for text, nor the reverse
        reference = {key: _REFERENCE[key] for key in ("pattern", "patternErrorMessage")}
        return {**result, "type": [result["type"], "string"], **reference}
    if not result.keys() - {"description", "default"} or (
        result.get("type") == "string" and not result.keys() & {"enum", "const", "pattern", "format"}
    ):
        return result  # any text may stand here
    outside: Schema = {key: result.pop(key) for key in ("description", "default") if key in result}
    return {**outside, "anyOf": [*_flat([result]), _TO_REFERENCE]}


def _recipe(whole: Schema) -> Schema:
    properties = {"defaults": _defaults("recipe"), **whole["properties"]}
    return {**whole, "properties": properties, "allOf": list(_narrowed(whole))}


def _choice(group: str, field: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """Return the schema of a file of a group: that of its section in a recipe, with a defaults list."""
    found = []
    for option in field.get("anyOf", [field]):
        section = definitions[option["$ref"].removeprefix("#/$defs/")] if "$ref" in option else option
        if section.get("type") == "object":
            found.append({**section, "properties": {"defaults": _defaults(group), **section.get("properties", {})}})
    return found[0] if len(found) == 1 else {"anyOf": found}


def _narrowed(whole: Schema) -> Iterator[Schema]:
    """Yield rules such as: with `- /method: sft` under defaults, the section `method` is one of sft."""
    for kind in extensions.KINDS:
        names = extensions.names(kind)
        if kind not in whole["properties"] or len(names) == 1:
            continue
        by_name: dict[str, list[str]] = {}
        for choice, name in _chosen_extensions(kind):
            by_name.setdefault(name, []).append(choice)
        for name, choices in by_name.items():
            ways = [{"properties": {key: {"enum": choices}}, "required": [key]} for key in _entry_keys(kind)]
            entry = {"type": "object", "anyOf": ways}
            section = {"anyOf": [{"$ref": f"#/$defs/{kind}.{name}"}, {"type": "null"}, _TO_REFERENCE]}
            yield {
                "if": {"properties": {"defaults": {"contains": entry}}, "required": ["defaults"]},
                "then": {"properties": {kind: section}},
            }


def _chosen_extensions(kind: str) -> Iterator[tuple[str, str]]:
    """Yield each choice of a group of extensions with the extension that it names."""
    import yaml

    from largeforge.recipe.vetting import vet

    for choice, path in sources.choices(kind).items():
        vetted = vet(path)
        values = {} if vetted.problems else yaml.safe_load(vetted.text)
        name = values.get("name") if isinstance(values, dict) else None
        if name in extensions.names(kind):
            yield choice, str(name)


def _entry_keys(group: str) -> tuple[str, str]:
    return f"/{group}", f"override /{group}"


def _defaults(group: str) -> Schema:
    """Return the schema of the defaults list in a file of a group."""
    groups = [name for name in sources.groups() if name != "recipe"]
    base = "Another recipe to build on." if group == "recipe" else f"Another choice of conf/{group}/ to build on."
    properties = {key: {"$ref": f"#/$defs/choice.{name}"} for name in groups for key in _entry_keys(name)}
    patterns = {
        rf"^((optional|override) +)*/{name}(@[A-Za-z_][\w.-]*)?$": {"$ref": f"#/$defs/choice.{name}"} for name in groups
    }
    entry = {
        "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": False,
        "properties": properties, "patternProperties": patterns,
    }  # fmt: skip
    items = [
        {"enum": ["_self_"], "description": "This file itself: what stands after it overrides it."},
        {"enum": list(sources.choices(group)) or ["_self_"], "description": base},
        {"type": "string", "pattern": r"^(optional +)?/\w"},
        entry,
    ]
    text = "What the file is made of, the last one winning: `- /group: choice`, `- override /group: choice`, `_self_`."
    return {"type": "array", "description": text, "items": {"anyOf": items}}


def _choice_definitions() -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for group in sources.groups():
        if names := list(sources.choices(group)):
            one = {"enum": names}
            options = [one, {"type": "array", "items": one}, {"type": "null"}]
            found[f"choice.{group}"] = {"description": f"A choice of `{group}`.", "anyOf": options}
        else:
            found[f"choice.{group}"] = {"description": f"There is no choice of `{group}`.", "type": "null"}
    return found


def _complete(name: str, schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """Return the schema with its head and with those definitions that it needs."""
    title = "LargeForge recipe" if name == "recipe" else f"LargeForge {name}"
    needed: set[str] = set()
    open_nodes: list[Any] = [schema]
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, dict | list):
            open_nodes += node.values() if isinstance(node, dict) else node
        elif _is_pointer(node) and (target := node.removeprefix("#/$defs/")) not in needed:
            needed.add(target)
            open_nodes.append(definitions[target])
    kept = {key: definitions[key] for key in sorted(needed)}
    return {"$schema": DRAFT, "title": title, **schema, "$defs": kept}
