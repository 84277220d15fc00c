"""Descriptions of fields from the docstrings below them, parsed once a file and kept until that changes.

Pydantic's `use_attribute_docstrings` looks for the source of each class anew, which took a tenth of the
time of a plan. The result is the same; what is not found here is left to Pydantic.
"""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path
from typing import Any

from pydantic._internal import _docs_extraction, _fields

from largeforge import cache as kept

KEPT = "field-descriptions"


def speed_up() -> None:
    """Let Pydantic ask here first; calling it again does nothing."""
    fields: Any = _fields
    if fields.extract_docstrings_from_cls is not _docstrings:
        fields.extract_docstrings_from_cls = _docstrings


def _docstrings(cls: type[Any], use_inspect: bool = False) -> dict[str, str]:
    """Return the docstring of each field of a class."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    found = _classes(file) if cls.__module__.startswith("largeforge.") and file else {}
    if cls.__qualname__ in found:
        return found[cls.__qualname__]
    return _docs_extraction.extract_docstrings_from_cls(cls, use_inspect=use_inspect)


@cache
def _classes(file: str) -> dict[str, dict[str, str]]:
    """Return the docstrings of the fields of each class at the top level of a file; one defined twice is left out."""
    try:
        key = kept.file_key(Path(file))
        found: dict[str, dict[str, str]] | None = kept.lookup(KEPT, key) if key else None
        if found is None:
            found = _parsed(Path(file).read_bytes())
            if key and kept.file_key(Path(file)) == key:
                kept.keep(KEPT, key, found)
    except (OSError, SyntaxError):
        return {}
    return found


def _parsed(source: bytes) -> dict[str, dict[str, str]]:
    """Return the same of the text of a file."""
    body = ast.parse(source).body
    classes = [node for node in body if isinstance(node, ast.ClassDef)]
    names = [node.name for node in classes]
    found = {}
    for node in classes:
        if names.count(node.name) == 1:
            visitor = _docs_extraction.DocstringVisitor()
            visitor.generic_visit(node)
            found[node.name] = visitor.attrs
    return found
