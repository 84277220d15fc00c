"""The paths in a dataset that is still plain data: of a recipe, a stage or a lock, whole or broken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

KEYS = ("path", "heldout_path")


def named(dataset: Mapping[str, Any]) -> dict[str, str]:
    """Return each path by its key within the dataset, such as `path`, `path.1` or `mix.math.path`."""
    return {key: path for key, path in _walk(dataset) if path}


def changed(dataset: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """Return the dataset with every path changed; what has another form stays as it is."""

    def both(section: Mapping[str, Any]) -> dict[str, Any]:
        return {key: _changed(value, change) if key in KEYS else value for key, value in section.items()}

    found, mix = both(dataset), dataset.get("mix")
    if isinstance(mix, dict):
        found["mix"] = {name: both(source) if isinstance(source, dict) else source for name, source in mix.items()}
    return found


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, list):
        return [_changed(item, change) for item in value]
    return change(value) if isinstance(value, str) and value else value


def _walk(dataset: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    mix = dataset.get("mix")
    sections = {f"mix.{name}.": source for name, source in mix.items()} if isinstance(mix, dict) else {}
    for prefix, section in {"": dataset, **sections}.items():
        for key in KEYS if isinstance(section, dict) else ():
            value = section.get(key)
            if isinstance(value, str):
                yield f"{prefix}{key}", value
            elif isinstance(value, list):
                yield from ((f"{prefix}{key}.{i}", item) for i, item in enumerate(value) if isinstance(item, str))
