"""The report's sections to act on and to look up: what to type next, environment, recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeforge.console.text import clean
from largeforge.report.html import command, details, esc, esc_lines, pairs, section, value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.report.facts import Facts

_MAX_DEPTH = 12


def next_steps(facts: Facts) -> str:
    """Return the commands that the run ended with: serve, ask, reproduce, or continue."""
    items = "".join(
        f"<li><p>{esc(step.get('text') or '')}</p>{command(step.get('command') or '')}</li>"
        for step in facts.next
        if clean(step.get("command") or "")
    )
    return section("next", "Next", f'<ul class="commands">{items}</ul>' if items else "")


def environment(lock: dict[str, Any]) -> str:
    """Return the lock: what stands at its top at once, each nested part on demand."""
    top = pairs((str(name), value(item)) for name, item in lock.items() if not isinstance(item, dict | list))
    parts = "".join(
        details(f'{esc(name)} <span class="muted">{len(item)}</span>', pairs(_flat(item)))
        for name, item in lock.items()
        if isinstance(item, dict | list)
    )
    return section("environment", "Environment", top + parts, note="What the run was locked to." if lock else "")


def _flat(item: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield the leaves of nested JSON with their paths; what lies very deep stays JSON."""
    is_leaf = not isinstance(item, dict | list) or depth == _MAX_DEPTH
    if is_leaf or not item:
        yield path, value(item)
        return
    entries = item.items() if isinstance(item, dict) else enumerate(item)
    for key, child in entries:
        yield from _flat(child, f"{path}.{key}" if path else str(key), depth + 1)


def recipe(text: str) -> str:
    """Return the resolved recipe, closed."""
    if not text.strip():
        return ""
    body = f'<pre class="recipe" tabindex="0"><code>{esc_lines(text)}</code></pre>'
    return section("recipe", "Recipe", details("The recipe with every choice resolved", body))
