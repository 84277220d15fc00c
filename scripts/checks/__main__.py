"""`scripts/check`: run every check, one line each, with details of those that fail.

`scripts/check --fix` first lets ruff and the documentation generator repair what they can.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Check:
    """A command that exits with 0 when all is well."""

    name: str
    module: tuple[str, ...]
    fix: tuple[str, ...] = ()
    """The command that repairs what it finds, if there is one."""


CHECKS = (
    Check("ruff check", ("ruff", "check", "."), ("ruff", "check", "--fix", "--quiet", ".")),
    Check("ruff format", ("ruff", "format", "--check", "--diff", "--quiet", "."), ("ruff", "format", "--quiet", ".")),
    Check("mypy --strict", ("mypy", "--strict", "--no-error-summary")),
    Check("import rules", ("pytest", "tests/test_import_rules.py", "-q", "--no-header", "-p", "no:cacheprovider")),
    Check("generated docs", ("scripts.reference", "--check"), ("scripts.reference",)),
)


def main() -> int:
    """Run all checks and return 1 when one failed."""
    parser = argparse.ArgumentParser(prog="scripts/check", description=__doc__)
    parser.add_argument("--fix", action="store_true", help="repair what ruff and the generator can")
    parser.add_argument("--json", type=Path, help="also write passed and failed checks, for scripts/test")
    options = parser.parse_args()
    failed = []
    for check in CHECKS:
        if options.fix and check.fix:
            _run(check.fix)
        started = time.monotonic()
        ended = _run(check.module)
        seconds = time.monotonic() - started
        print(f"{'ok    ' if ended.returncode == 0 else 'FAILED'}  {check.name:<15} {seconds:5.1f} s", flush=True)
        if ended.returncode:
            failed.append(check.name)
            print(_indented(ended.stdout + ended.stderr), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"passed": len(CHECKS) - len(failed), "failed": len(failed), "skipped": 0}))
    return 1 if failed else 0


def _run(module: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *module], cwd=ROOT, capture_output=True, text=True)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines())


if __name__ == "__main__":
    sys.exit(main())
