"""Keep passwords out of files and messages."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any

WITHHELD = "LARGEFORGE_WITHHELD"
"""Brings a stage what its file leaves out; it is handed on to processes and hosts, and written nowhere."""

_IN_ADDRESS = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/@\s'\"]+@", re.IGNORECASE)
_IN_DATABASE = re.compile(
    r"(\b(?:postgres(?:ql)?|mysql|mariadb|mssql|oracle|redis|mongodb)(?:\+\w+)?://)[^/@:\s'\"]*:[^\s'\"]*@",
    re.IGNORECASE,
)
"""Passwords of databases may have `@` and `/` in them, as SQLAlchemy takes them."""
_IN_QUERY = re.compile(
    r"([?&](?:x-(?:amz|goog)-(?:signature|credential|security-token)|sig|signature|token|access_token|api_?key)=)[^&#\s'\"]+",
    re.IGNORECASE,
)
"""What an address carries that was signed for whoever has it."""
_IN_VARIABLE = re.compile(r"\b([A-Z0-9_]*(?:TOKEN|SECRET|PASSWORD|API_KEY|ACCESS_KEY)[A-Z0-9_]*=)(?!\$)[^\s'\"]+")
"""A variable of the environment that is set to a secret; one that is set from another (`=$HF_TOKEN`) stays."""


def without_passwords(value: Any) -> Any:
    """Return `value`, text or nested data, with each `scheme://user:password@host` as `scheme://host`.

    Signatures in addresses and variables that are set to secrets become `***`.
    """
    if isinstance(value, dict):
        return {key: without_passwords(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_passwords(item) for item in value]
    if not isinstance(value, str):
        return value
    left = _IN_ADDRESS.sub(r"\1", _IN_DATABASE.sub(r"\1", value))
    return _IN_VARIABLE.sub(r"\1***", _IN_QUERY.sub(r"\1***", left))


def withheld(data: Any) -> dict[str, str]:
    """Return the environment that brings a stage what `without_passwords(data)` leaves out; empty for nothing."""
    left_out = [(path, text) for path, text in _texts(data, ()) if without_passwords(text) != text]
    return {WITHHELD: json.dumps(left_out)} if left_out else {}


def restored(data: Any) -> Any:
    """Put what `withheld` brought back into nested data, in place; processes that this one starts do not inherit it."""
    for (*above, last), text in json.loads(os.environ.pop(WITHHELD, "[]")):
        node = data
        for key in above:
            node = node[key]
        node[last] = text
    return data


def _texts(data: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(data, str):
        yield path, data
    elif isinstance(data, dict):
        for key, item in data.items():
            yield from _texts(item, (*path, str(key)))
    elif isinstance(data, list | tuple):
        for index, item in enumerate(data):
            yield from _texts(item, (*path, index))
