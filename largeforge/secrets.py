"""Keep passwords out of files and messages."""

from __future__ import annotations

import re
from typing import Any

_IN_ADDRESS = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/@\s'\"]+@", re.IGNORECASE)


def without_passwords(value: Any) -> Any:
    """Return `value`, text or nested data, with each `scheme://user:password@host` as `scheme://host`."""
    if isinstance(value, dict):
        return {key: without_passwords(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_passwords(item) for item in value]
    return _IN_ADDRESS.sub(r"\1", value) if isinstance(value, str) else value
