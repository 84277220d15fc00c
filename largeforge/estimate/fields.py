"""Read numbers from a `config.json` that anybody may have written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST = 10**9
"""No width, count or length of a model comes near this."""
MOST_LAYERS = 10_000


class Fields:
    """The fields of a `config.json`, and what the family takes for those that are left out.

    A field that is written as null is neither: it takes the default of the call.
    """

    def __init__(self, config: Mapping[str, Any], defaults: Mapping[str, Any]):
        self._config, self._defaults = config, defaults

    def raw(self, name: str) -> Any:
        """Return a field as it is written, or the family's default."""
        return self._config[name] if name in self._config else self._defaults.get(name)

    def integer(self, *names: str, default: int | None = None, least: int = 1, most: int = LARGEST) -> int:
        """Return a whole number under the first of `names` that is there, else `default`.

        Raises ValueError when there is none and no default, or when it is no sane number.
        """
        found = next((name for name in names if self.raw(name) is not None), None)
        if found is None:
            if default is None:
                raise ValueError(f"config.json has no {names[0]}")
            return default
        value = self.raw(found)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            given = repr(value)[:40]
            raise ValueError(f"{found} in config.json is {given}: it is a whole number from {least} to {most}")
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return a field that is true or false.

        Raises ValueError when it is something else.
        """
        value = self.raw(name)
        if value is not None and not isinstance(value, bool):
            raise ValueError(f"{name} in config.json is {repr(value)[:40]}: it is true or false")
        return default if value is None else value

    def items(self, name: str) -> list[Any]:
        """Return a list, empty when there is none.

        Raises ValueError when it is no list, or one that is longer than any model's layers.
        """
        value = self.raw(name)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > MOST_LAYERS:
            raise ValueError(f"{name} in config.json is no list with an entry for each layer")
        return value
