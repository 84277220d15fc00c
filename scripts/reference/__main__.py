"""`scripts/generate_docs`: write `docs/configuration.md`, or with --check tell whether it is up to date."""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

from scripts.reference.configuration import page

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Write the page; with --check return 1 when it is not what would be written."""
    parser = argparse.ArgumentParser(prog="scripts/generate_docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when something would change")
    options = parser.parse_args()
    path = ROOT / "docs" / "configuration.md"
    old, new = path.read_text(encoding="utf-8") if path.is_file() else "", page(ROOT)
    if old == new:
        return 0
    if options.check:
        print(f"docs/{path.name} is not up to date: run scripts/generate_docs")
        changes = list(difflib.unified_diff(old.splitlines(), new.splitlines(), "now", "generated", n=0, lineterm=""))
        print("\n".join(changes[:20]))
        return 1
    path.parent.mkdir(exist_ok=True)
    path.write_text(new, encoding="utf-8")
    print(f"wrote docs/{path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
