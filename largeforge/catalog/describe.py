"""Versions and entries of the audit trail as plain data for programs, and the words that tables use."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from largeforge.registry import records

if TYPE_CHECKING:
    from collections.abc import Mapping

    from largeforge.registry.audit import Entry
    from largeforge.registry.chain import Link
    from largeforge.registry.records import GateResult, VersionSummary


def version(found: VersionSummary) -> dict[str, Any]:
    """Return a version as plain data."""
    return {
        "reference": found.reference,
        **{name: getattr(found, name) for name in ("name", "version", "kind", "digest", "tags", "notes", "seal")},
        "aliases": list(found.aliases),
        "created": moment(found.created),
        "gates_passed": gates_passed(found),
        "metrics": records.metrics_json(found.metrics),
        "lineage": records.lineage_json(found.lineage),
        "run_id": found.run_id,
        "source": found.source,
    }


def entry(found: Entry) -> dict[str, Any]:
    """Return an entry of the audit trail as plain data."""
    return {**asdict(found), "when": moment(found.when)}


def link(found: Link) -> dict[str, Any]:
    """Return a chain of versions as plain data, from the last one back."""
    return {
        "reference": found.reference,
        "role": found.role,
        "note": found.note,
        "version": version(found.version) if found.version else None,
        "parents": [link(parent) for parent in found.parents],
    }


def moment(seconds: float) -> str:
    """Return a time as ISO 8601 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) if seconds else ""


def gates_passed(found: VersionSummary) -> bool | None:
    """Whether all gates of a version passed; None when it has none."""
    gates = found.lineage.gates
    return all(gate.passed for gate in gates) if gates else None


def gates(found: VersionSummary) -> str:
    """Return in words how many gates passed."""
    passed = sum(gate.passed for gate in found.lineage.gates)
    return f"{passed} of {len(found.lineage.gates)}" if found.lineage.gates else "none"


def gate(found: GateResult) -> str:
    """Return in words how one gate ended."""
    ended = "passed" if found.passed else "failed"
    return f"{ended}: {found.note}" if found.note else ended


def metrics(found: Mapping[str, float], most: int = 3) -> str:
    """Return the first metrics in one line; those of the base beside it last."""
    names = sorted(found, key=lambda name: (name.startswith(("base.", "vs_base.")), name))
    more = f" +{len(names) - most}" if len(names) > most else ""
    return ", ".join(f"{name} {found[name]:.4g}" for name in names[:most]) + more
