"""Choose the expert whose keywords occur in the last user message.

A keyword of letters matches as a whole word; one with any other character (`c++`, `#42`) or in
a script that writes no spaces (Chinese, Japanese, Thai, ...) matches anywhere. Case is ignored.
The expert with the most distinct keywords in the message wins, ties go to the first in the
topology, and no match is no opinion. The cost depends on the length of the message, not
on how many experts there are: words are looked up in a dict, the rest is one prefix-tree regex.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any, Literal

from largeforge.gateway.routing import Decision, Router
from largeforge.recipe.base import Extension

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from largeforge.gateway.request import Request
    from largeforge.gateway.routing import Services
    from largeforge.recipe.schema import Topology

SIDE_CHARS = 8_192
"""Of a longer message keywords are looked for in so many characters at its start and at its end: a question stands
before or after the document that it is about."""

_WORD = re.compile(r"\w+")
_BETWEEN_WORDS = {code: " " for code in range(128) if not _WORD.fullmatch(chr(code))}
"""What ends a word in ASCII, for `str.translate`: that is several times as fast as the pattern."""
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


class Config(Extension):
    """Route by the `keywords` of each expert in the topology."""

    name: Literal["keyword"] = "keyword"


class KeywordRouter(Router):
    """The keywords of a topology, compiled once."""

    def __init__(self, keywords: dict[str, list[str]]):
        self._experts = list(keywords)
        self._reasons = [
            {_normal(keyword.strip()): f"keyword:{keyword.strip()}" for keyword in keywords[expert] if keyword.strip()}
            for expert in self._experts
        ]
        self._owners: dict[str, list[int]] = {}
        for index, reasons in enumerate(self._reasons):
            for keyword in reasons:
                self._owners.setdefault(keyword, []).append(index)
        self._alone = {
            keyword: Decision(self._experts[owners[0]], self._reasons[owners[0]][keyword])
            for keyword, owners in self._owners.items()
        }
        self._words = frozenset(filter(_WORD.fullmatch, self._owners))
        fragments = [keyword for keyword in self._owners if not _is_word(keyword)]
        self._fragments = re.compile(f"(?=({_tree_pattern(fragments)}))") if fragments else None
        self._prefixes = {
            fragment: [other for other in fragments if fragment.startswith(other)] for fragment in fragments
        }

    def choose(self, request: Request) -> Decision | None:
        """Return the expert with the most keywords in the last user message; no opinion where there are none."""
        found = set(self._matches(_normal(_sides(request.text))))
        if not found:
            return None
        if len(found) == 1:
            return self._alone[found.pop()]
        counts: dict[int, int] = {}
        for keyword in found:
            for index in self._owners[keyword]:
                counts[index] = counts.get(index, 0) + 1
        best = min(counts, key=lambda index: (-counts[index], index))
        reason = next(reason for keyword, reason in self._reasons[best].items() if keyword in found)
        return Decision(self._experts[best], reason)

    def _matches(self, text: str) -> Iterator[str]:
        words = text.translate(_BETWEEN_WORDS).split() if text.isascii() else _WORD.findall(text)
        yield from self._words.intersection(words)
        if self._fragments is not None:
            for longest in set(self._fragments.findall(text)):
                yield from self._prefixes[longest]


def build(config: Config, topology: Topology, services: Services) -> KeywordRouter:
    """Return the router for a topology."""
    return KeywordRouter({name: expert.keywords for name, expert in topology.experts.items()})


def _sides(text: str) -> str:
    return text if len(text) <= 2 * SIDE_CHARS else f"{text[:SIDE_CHARS]} {text[-SIDE_CHARS:]}"


def _normal(text: str) -> str:
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


def _is_word(keyword: str) -> bool:
    return keyword.isalpha() and (keyword.isascii() or not _UNSPACED.search(keyword))


def _tree_pattern(keywords: Iterable[str]) -> str:
    """Return a regex that matches the longest of `keywords` at a position, as a tree of prefixes."""
    tree: dict[str, Any] = {}
    for keyword in keywords:
        node = tree
        for character in keyword:
            node = node.setdefault(character, {})
        node[""] = {}
    return _branch(tree)


def _branch(node: dict[str, Any]) -> str:
    branches = []
    for character, child in node.items():
        if character:
            chain = character
            while len(child) == 1 and "" not in child:
                ((following, child),) = child.items()
                chain += following
            branches.append(re.escape(chain) + _branch(child))
    if not branches:
        return ""
    return f"(?:{'|'.join(branches)}){'?' if '' in node else ''}"
