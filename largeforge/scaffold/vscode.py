"""Add entries to VS Code's `settings.json` by insertion only.

The file is JSON with comments and trailing commas, and belongs to the user: nothing in it is
removed or changed, not even a space. So it is read by its tokens, and never written from data.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<space> [\s\ufeff]+ | //[^\n]* | /\*.*?\*/ )
  | (?P<string> "(?:[^"\\\n]|\\.)*" )
  | (?P<open> [{\[] ) | (?P<close> [}\]] ) | (?P<comma> , ) | (?P<colon> : )
  | (?P<word> [\w.+-]+ )
    """,
    re.VERBOSE | re.DOTALL,
)
_SECTION = "yaml.schemas"


@dataclass(frozen=True)
class _Object:
    """An object of the file: where its `{` ends, and its keys with what their values begin with."""

    end: int
    keys: dict[str, int]


def with_schemas(text: str, wanted: dict[str, str]) -> str:
    """Return the settings with each schema of `wanted` and its glob under `yaml.schemas`.

    A schema that is there already keeps its own. Raises ValueError when the text is no JSON object
    or when `yaml.schemas` is something else.
    """
    if not text.strip():
        text = "{\n}\n"
    top = _object(text, 0)
    if _SECTION not in top.keys:
        section = json.dumps(wanted, indent=4).replace("\n", "\n    ")
        return _inserted(text, top, f'\n    "{_SECTION}": {section}')
    section_object = _object(text, top.keys[_SECTION])
    missing = [item for item in wanted.items() if item[0] not in section_object.keys]
    entries = [f"\n        {json.dumps(name)}: {json.dumps(glob)}" for name, glob in missing]
    return _inserted(text, section_object, ",".join(entries)) if entries else text


def _inserted(text: str, into: _Object, entries: str) -> str:
    return f"{text[: into.end]}{entries}{',' if into.keys else ''}{text[into.end :]}"


def _object(text: str, start: int) -> _Object:
    """Return the object whose `{` is the first token from `start` on."""
    depth, end, key = 0, 0, ""
    keys: dict[str, int] = {}
    before = ""
    position = start
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"not valid JSON at line {text.count(chr(10), 0, position) + 1}")
        position, kind = match.end(), str(match.lastgroup)
        if kind == "space":
            continue
        if not end and match[0] != "{":
            raise ValueError(f"expected {{ at line {text.count(chr(10), 0, match.start()) + 1}")
        end = end or position
        depth += {"open": 1, "close": -1}.get(kind, 0)
        if depth == 0:
            return _Object(end, keys)
        if depth == 1 and kind == "string" and before in ("open", "comma"):
            key = json.loads(match[0], strict=False)
        elif depth == 1 and kind == "colon":
            keys[key] = position
        before = kind
    raise ValueError("a closing } is missing")
