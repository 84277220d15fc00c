"""Keep passwords out of files and messages."""

from __future__ import annotations

import re
from typing import Any

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
