"""What an exporter returns, and how its files are written down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True)
class Rendered:
    """Files by their path below the folder of the export, and what to do with them."""

    files: Mapping[str, str]
    steps: tuple[str, ...]
    """Commands and advice, in their order."""
    notes: tuple[str, ...] = ()
    """What somebody should know before the first step."""


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Writes texts of several lines as such, and lists inside their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def yaml_text(documents: Iterable[Any], *, header: str) -> str:
    """Return YAML documents below a header of comment lines."""
    parts = [yaml.dump(one, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True) for one in documents]
    comment = "".join(f"# {line}\n" if line else "#\n" for line in header.splitlines())
    return comment + "---\n".join(parts)


def without_empty(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping without the keys whose value is empty: `None`, an empty text, list or mapping."""
    return {key: value for key, value in values.items() if value not in (None, "", [], {}, ())}
