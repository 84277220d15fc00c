"""Find models and versions in MLflow, and say what there is when one is missing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from largeforge.errors import RegistryError, nearest
from largeforge.registry import records
from largeforge.registry.database import every
from largeforge.registry.records import RegisteredModel, VersionSummary

if TYPE_CHECKING:
    from largeforge.recipe.model_ref import ModelRef
    from largeforge.registry.database import Database

DEFAULT_ALIAS = "champion"
_NAME = re.compile(r"(?!\.+$)[\w.-]+")
_ALIAS = re.compile(r"(?!latest$|v\d+$)[\w-]+", re.IGNORECASE)


def check_names(name: str, alias: str) -> None:
    """Refuse what MLflow would refuse later; an empty alias means none.

    Raises RegistryError.
    """
    if not _NAME.fullmatch(name):
        rule = "a name has letters, digits, '_', '-' and '.', and is not only dots"
        raise RegistryError(f"register_as = '{name}': {rule}")
    if alias:
        check_alias(alias, "register_alias")


def check_alias(alias: str, key: str) -> None:
    """Refuse an alias that MLflow would refuse; `key` is where it was given.

    Raises RegistryError.
    """
    if not _ALIAS.fullmatch(alias):
        rule = "an alias has letters, digits, '_' and '-'; MLflow keeps 'latest', 'v1', 'v2', ... for itself"
        raise RegistryError(f"{key} = '{alias}': {rule}")


def models(client: Any) -> list[RegisteredModel]:
    """Return every model that has a version of LargeForge's, by name."""
    found: dict[str, list[VersionSummary]] = {}
    for version in summaries(client, ""):
        found.setdefault(version.name, []).append(version)
    return [RegisteredModel(name, found[name]) for name in sorted(found)]


def summaries(client: Any, name: str) -> list[VersionSummary]:
    """Return the versions that LargeForge registered (all, or those of one name), oldest first."""
    if client is None or (name and not _NAME.fullmatch(name)):
        return []
    only = f"name = '{name}'" if name else None
    aliases: dict[tuple[str, int], list[str]] = {}
    for model in every(client.search_registered_models, only):
        for alias, number in model.aliases.items():
            aliases.setdefault((model.name, int(number)), []).append(alias)
    found = [
        records.from_tags(
            name=version.name,
            version=int(version.version),
            tags=version.tags,
            aliases=tuple(sorted(aliases.get((version.name, int(version.version)), ()))),
            run_id=version.run_id,
            source=version.source,
            notes=version.description or "",
            created=version.creation_timestamp / 1000,
        )
        for version in every(client.search_model_versions, only)
        if records.DIGEST_TAG in version.tags
    ]
    return sorted(found, key=lambda version: (version.name, version.version))


def held(client: Any, name: str) -> dict[str, int]:
    """Return the aliases of a model and the version of each."""
    return {alias: version.version for version in summaries(client, name) for alias in version.aliases}


def one(client: Any, database: Database, ref: ModelRef) -> VersionSummary:
    """Find a version by number or alias (`champion` when neither is given).

    Raises RegistryError with what exists when it is missing, or when what is recorded of it was changed.
    """
    found = summaries(client, ref.target)
    if not found:
        raise _no_model(client, database, ref)
    selector = ref.selector or DEFAULT_ALIAS
    for version in found:
        if selector == str(version.version) if ref.is_version else selector in version.aliases:
            return version
    raise _no_version(ref, selector, RegisteredModel(ref.target, found))


def check_seal(client: Any, version: VersionSummary) -> None:
    """Refuse a version whose record in the database is no more what was registered.

    Raises RegistryError.
    """
    tags = client.get_model_version(version.name, str(version.version)).tags
    if fault := records.changed(tags):
        raise RegistryError(f"{version.reference} is damaged: {fault}")


def _no_model(client: Any, database: Database, ref: ModelRef) -> RegistryError:
    names = [model.name for model in models(client)]
    near = nearest(ref.target, names)
    return RegistryError(
        f"{ref}: no model '{ref.target}' is registered in {database}; "
        + (f"there is: {', '.join(names)}." if names else "nothing is registered there.")
        + (f" Did you mean 'registry:{near}'?" if near else "")
        + f" {_how_to_register(ref.target)}"
    )


def _how_to_register(name: str) -> str:
    """Return the command that registers a model, where a recipe says that it does."""
    from largeforge.recipe.sources import choices

    line = re.compile(rf"^\s*register_as:\s*{re.escape(name)}\s*$", re.MULTILINE)
    found = [recipe for recipe, path in choices("recipe").items() if line.search(path.read_text(encoding="utf-8"))]
    if found:
        return f"Run the recipe that registers it first: python -m largeforge +recipe={found[0]}"
    return f"A recipe with `register_as: {name}` registers it: python -m largeforge +recipe=NAME"


def _no_version(ref: ModelRef, selector: str, model: RegisteredModel) -> RegistryError:
    aliases = [f"@{alias} (version {number})" for alias, number in model.aliases.items()]
    numbers = [str(version.version) for version in model.versions]
    near = "" if ref.is_version else nearest(selector, model.aliases)
    recipe = model.versions[-1].lineage.recipe
    again = "" if ref.is_version else f" register_alias={selector}"
    return RegistryError(
        f"{ref}: model '{model.name}' has no {'version' if ref.is_version else 'alias'} '{selector}'; "
        f"it has versions {', '.join(numbers)} and {'aliases ' + ', '.join(aliases) if aliases else 'no alias'}."
        + (f" Did you mean 'registry:{model.name}@{near}'?" if near else "")
        + f" To register one: python -m largeforge +recipe={recipe or 'NAME'}{again}"
    )
