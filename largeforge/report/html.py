"""Small pieces of HTML from untrusted text. Everything that was read from a run passes through `esc`."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

from largeforge.console.tables import numeric_columns, table_parts
from largeforge.console.text import clean, clean_lines, number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def esc(text: object) -> str:
    """Return text as one line that is safe in HTML, in an attribute too."""
    return escape(clean(text))


def esc_lines(text: object) -> str:
    """Return text that is safe in HTML with its line breaks."""
    return escape("\n".join(clean_lines(text)))


def value(item: object) -> str:
    """Return a number or text for reading, and anything nested as JSON, safe in HTML."""
    if isinstance(item, dict | list):
        try:
            return esc(json.dumps(item, ensure_ascii=False))
        except RecursionError:
            return "…"
    return escape(number(item))


def section(name: str, title: str, body: str, *, note: str = "") -> str:
    """Return a section of the page, or nothing when it has no body."""
    if not body:
        return ""
    about = f'<p class="muted">{note}</p>' if note else ""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{about}{body}</section>'


def pairs(items: Iterable[tuple[str, str]]) -> str:
    """Return names with their values (HTML already) as a definition list; empty values are left out."""
    rows = "".join(f"<div><dt>{esc(name)}</dt><dd>{text}</dd></div>" for name, text in items if text)
    return f'<dl class="pairs">{rows}</dl>' if rows else ""


def event_table(event: dict[str, Any]) -> str:
    """Return a `table` event as a table with its title as caption."""
    columns, rows = table_parts(event)
    return table(columns, rows, caption=clean(event.get("title") or ""))


def table(columns: Sequence[str], rows: list[list[Any]], *, caption: str = "") -> str:
    """Return a table; columns of numbers stand on the right."""
    if not columns:
        return ""
    classes = [' class="num"' if is_number else "" for is_number in numeric_columns(rows, len(columns))]
    head = "".join(f'<th scope="col"{name}>{esc(column)}</th>' for column, name in zip(columns, classes, strict=True))
    body = "".join(_row(row, classes) for row in rows)
    title = f"<caption>{esc(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{esc(caption or "Table")}">'
        f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(row: list[Any], classes: list[str]) -> str:
    cells = [f"<td{name}>{value(cell)}</td>" for cell, name in zip(row, classes, strict=True)]
    return f"<tr>{''.join(cells)}</tr>"


def details(summary: str, body: str) -> str:
    """Return something that opens on demand; both arguments are HTML already."""
    return f"<details><summary>{summary}</summary>{body}</details>" if body else ""


def command(text: object) -> str:
    """Return a command to copy; one click selects all of it."""
    return f'<pre class="command" tabindex="0"><code>{esc(text)}</code></pre>' if clean(text) else ""


def mark(is_good: bool, word: str) -> str:
    """Return a verdict told by sign and word, not by colour alone."""
    name, sign = ("good", "✓") if is_good else ("bad", "✗")
    return f'<span class="mark {name}"><span aria-hidden="true">{sign}</span> {escape(word)}</span>'
