"""What `models` and `trace` print for people."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from largeforge.catalog import describe
from largeforge.compare.view import render as render_lock
from largeforge.runs import relative

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from largeforge.catalog.comparing import VersionDifference
    from largeforge.catalog.tracing import Trace
    from largeforge.registry.audit import Entry
    from largeforge.registry.chain import Link
    from largeforge.registry.records import RegisteredModel, VersionSummary

_STYLES = {"failed": "red", "broken off": "yellow", "under way": "yellow"}
_SHORT = 12
_WIDE = 1000


def console() -> Console:
    """Return the console to print on; in a file or a pipe nothing is folded: names there are searched for."""
    found = Console()
    return found if found.is_terminal or "COLUMNS" in os.environ else Console(width=_WIDE)


def listing(models: Sequence[RegisteredModel]) -> Table:
    """Return all versions, a model after the other, the newest version first."""
    table = _table("model", "version", "aliases", "kind", "registered", "gates", "metrics", "recipe")
    for model in models:
        name = model.name
        for version in reversed(model.versions):
            aliases = Text(", ".join(version.aliases), "bold green" if "champion" in version.aliases else "")
            table.add_row(
                Text(name, "bold"), str(version.version), aliases, version.kind, _day(version), _gates(version),
                Text(describe.metrics(version.metrics)), Text(version.lineage.recipe),
            )  # fmt: skip
            name = ""
    return table


def sheet(version: VersionSummary, where: str) -> RenderableType:
    """Return all that is known of a version."""
    lineage = version.lineage
    facts = {
        "aliases": ", ".join(version.aliases) or "none",
        "kind": version.kind,
        "registered": describe.moment(version.created),
        "files": where,
        "digest": version.digest,
        "recipe": lineage.recipe,
        "stage": lineage.stage,
        "run": lineage.run_dir,
        "lock": lineage.lock,
        "parents": ", ".join(lineage.parents),
        "steps": " → ".join(step.stage for step in lineage.steps),
        "origin": lineage.origin,
        "notes": version.notes,
        **{f"tag {key}": text for key, text in sorted(version.tags.items())},
    }
    parts: list[RenderableType] = [Text(version.reference, "bold"), _facts(facts)]
    if lineage.data_sha256:
        parts += [Text("\ndata", "bold"), _facts(lineage.data_sha256)]
    if version.metrics:
        parts += [Text("\nmetrics", "bold"), _facts({name: f"{value:.6g}" for name, value in version.metrics.items()})]
    if lineage.gates:
        table = _table("gate", "must be", "is", "")
        for gate in lineage.gates:
            value = "unknown" if gate.value is None else f"{gate.value:.6g}"
            ended = Text(describe.gate(gate), "" if gate.passed else "red")
            table.add_row(Text(gate.metric), Text(gate.condition), value, ended)
        parts += [Text(""), table]
    return Group(*parts)


def log(entries: Sequence[Entry]) -> Table:
    """Return the audit trail, the last entry last."""
    table = _table("when (UTC)", "who", "what", "why")
    for entry in entries:
        moved = f"@{entry.alias} {entry.before or 'none'} → {entry.version or 'none'}" if entry.alias else entry.version
        what = Text(f"{entry.action} {entry.model} {moved}".rstrip())
        if entry.state != "done":
            what.append(f" {entry.state}", _STYLES[entry.state])
        why = Text(entry.why)
        for note, style in ((entry.forced, "bold red"), (entry.detail, ""), (_report(entry), "dim")):
            if note:
                why.append(f"{chr(10) if why.plain else ''}{'forced: ' if note == entry.forced else ''}{note}", style)
        table.add_row(describe.moment(entry.when), Text(entry.who), what, why)
    return table


def difference(found: VersionDifference) -> RenderableType:
    """Return two versions side by side."""
    verdict = "the same files" if found.same_files else "other files"
    parts: list[RenderableType] = [Text(f"A {found.a.reference}   B {found.b.reference}: {verdict}", "bold")]
    if found.rows:
        table = _table("", "what", "A", "B")
        section = ""
        for row in found.rows:
            head = row.section if row.section != section else ""
            table.add_row(Text(head, "bold"), Text(row.key), _cell(row.a), _cell(row.b))
            section = row.section
        parts.append(table)
    if found.lock is None:
        parts.append(Text("Locks are not compared: not both versions have one.", "dim"))
    else:
        parts += [Text("\nlocks", "bold"), render_lock(found.lock)]
    return Group(*parts)


def chains(link: Link) -> Tree:
    """Return a version with all that it was made from."""
    tree = Tree(_link(link))
    _grow(tree, link)
    return tree


def trace(found: Trace) -> RenderableType:
    """Return how a model was made, from the lock on."""
    git = found.git
    commit = f"{git.get('commit', '')}{' with changes that were not committed' if git.get('dirty') else ''}"
    facts = {
        "lock": found.lock,
        "found by": found.clue,
        "recipe": found.recipe or "unknown",
        "commit": commit or "unknown: the recipe was in no git repository",
        "run": relative(found.runs[0]) if found.runs else "not on this machine",
        "also run in": ", ".join(relative(path) for path in found.runs[1:]),
        "reports": "\n".join(relative(path) for path in found.reports),
        "damaged": found.damage,
    }
    parts: list[RenderableType] = [_facts(facts), Text("\ndata", "bold"), _facts(found.data or {"none": ""})]
    parts.append(Text("\nregistered versions", "bold"))
    if not found.chains:
        parts.append(Text("none"))
    for link in found.chains:
        parts.append(chains(link))
    if found.history:
        parts += [Text("\nwhat became of them", "bold"), log(found.history)]
    return Group(*parts)


def _link(link: Link) -> Text:
    text = Text(link.reference, "bold" if link.version else "")
    text.append(f"  {link.role}", "cyan" if link.version else "dim")
    if link.version and link.version.aliases:
        text.append(f"  @{' @'.join(link.version.aliases)}", "green")
    if link.version and link.version.lineage.gates:
        text.append(f"  gates {describe.gates(link.version)}")
    if link.note:
        text.append(f"  ({link.note})", "yellow")
    return text


def _grow(tree: Tree, link: Link) -> None:
    if link.version is not None:
        lineage = link.version.lineage
        if lineage.steps:
            tree.add(Text(f"steps {' → '.join(step.stage for step in lineage.steps)}", "dim"))
        for name, sha256 in lineage.data_sha256.items():
            tree.add(Text(f"data {name} {sha256[:_SHORT]}", "dim"))
        if lineage.recipe or lineage.lock:
            tree.add(Text(f"recipe {lineage.recipe} lock {lineage.lock[:_SHORT]}", "dim"))
    for parent in link.parents:
        _grow(tree.add(_link(parent)), parent)


def _report(entry: Entry) -> str:
    parts = {"gates": entry.gates, "run": entry.run_dir and relative(Path(entry.run_dir)), "lock": entry.lock[:_SHORT]}
    return ", ".join(f"{name} {text}" for name, text in parts.items() if text)


def _cell(value: object) -> Text:
    if value is None:
        return Text("none", "dim")
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return Text(text if len(text) <= 40 else f"{text[:16]}…")


def _gates(version: VersionSummary) -> Text:
    return Text(describe.gates(version), "red" if describe.gates_passed(version) is False else "")


def _day(version: VersionSummary) -> str:
    return describe.moment(version.created).replace("T", " ")[:16]


def _facts(facts: dict[str, str]) -> Text:
    """Return names with their values; paths and digests are never folded, so that they can be searched and copied."""
    said = {key: text for key, text in facts.items() if text or key == "none"}
    width = max(map(len, said), default=0) + 2
    lines = Text(no_wrap=True, overflow="ignore")
    for key, text in said.items():
        for head, line in zip((key, *[""] * text.count("\n")), text.split("\n"), strict=True):
            lines.append(head.ljust(width), "dim").append(f"{line}\n")
    lines.rstrip()
    return lines


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
