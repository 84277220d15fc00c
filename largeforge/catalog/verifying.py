"""Hold versions against their hashes, one after the other, and say of each what is damaged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from largeforge.errors import RegistryError
from largeforge.registry import lookup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from largeforge.registry import ModelRegistry
    from largeforge.registry.records import VersionSummary


def verify(registry: ModelRegistry, versions: Sequence[VersionSummary], *, quick: bool, as_json: bool) -> int:
    """Verify the versions and print what came of it; 1 when one is damaged."""
    console = Console()
    found: list[dict[str, object]] = []
    for version in versions:
        fault = _fault(registry, version, quick=quick)
        found.append({"reference": version.reference, "sound": not fault, "fault": fault})
        if not as_json:
            word = Text("damaged", "bold red") if fault else Text("sizes are right" if quick else "verified", "green")
            console.print(Text.assemble(f"{version.reference}  ", word), highlight=False)
            if fault:
                console.print(Text(f"  {fault}"), highlight=False, soft_wrap=True)
    bad = sum(not each["sound"] for each in found)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    elif len(found) != 1:
        console.print(f"{len(found) - bad} of {len(found)} versions are sound", highlight=False)
    return 1 if bad else 0


def _fault(registry: ModelRegistry, version: VersionSummary, *, quick: bool) -> str:
    try:
        if quick:
            with registry.database.reading() as client:
                lookup.check_seal(client, version)
                registry.storage.check(client, version)
        else:
            registry.verify(version)
    except RegistryError as error:
        return str(error)
    return ""
