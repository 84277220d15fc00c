"""`scripts/generate_docs`: write the pages made from the source, or with --check tell whether they are up to date."""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

from scripts.reference import commands, configuration, models

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Write the pages; with --check return 1 when one is not what would be written, or a field has no meaning."""
    parser = argparse.ArgumentParser(prog="scripts/generate_docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when something would change")
    options = parser.parse_args()
    unclear = configuration.undocumented(configuration.all_models())
    for name in unclear:
        print(f"{name} has no docstring: say what it means, in which unit and range")
    pages = {
        "configuration.md": configuration.page(ROOT),
        "commands.md": commands.page(),
        "models.md": models.page(ROOT),
    }
    stale = [name for name, text in pages.items() if _is_stale(ROOT / "docs" / name, text, options.check)]
    return 1 if unclear or (stale and options.check) else 0


def _is_stale(path: Path, new: str, only_check: bool) -> bool:
    """Tell whether a page is not up to date, and write it unless it is only to be checked."""
    old = path.read_text(encoding="utf-8") if path.is_file() else ""
    if old == new:
        return False
    if only_check:
        print(f"docs/{path.name} is not up to date: run scripts/generate_docs")
        changes = list(difflib.unified_diff(old.splitlines(), new.splitlines(), "now", "generated", n=0, lineterm=""))
        print("\n".join(changes[:20]))
        return True
    path.parent.mkdir(exist_ok=True)
    path.write_text(new, encoding="utf-8")
    print(f"wrote docs/{path.name}")
    return True


if __name__ == "__main__":
    sys.exit(main())
