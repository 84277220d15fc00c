"""`scripts/test`: run the tests tier by tier, and end with a table and one line of sums.

Tiers: check, unit, recipes, golden, e2e, system, hosts. A tier that needs packages of the operating
system is skipped, with the reason, where they are missing; `--all` installs them and skips
nothing. Everything that is no option here goes to pytest: `scripts/test tests/data -x -k splits`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from scripts.tiers import outcome, system_packages
from scripts.tiers.outcome import Outcome
from scripts.tiers.tiers import TIERS, Tier, pytest_arguments

ROOT = Path(__file__).resolve().parents[2]
NOTHING_COLLECTED = 5
"""pytest's exit code when no test matches."""


def main() -> int:
    """Run the tiers and return 1 when anything failed or, with --all, could not be run."""
    options, given = _parser().parse_known_args()
    has_paths = any((ROOT / word.partition("::")[0]).exists() for word in given if not word.startswith("-"))
    chosen = [tier for tier in TIERS if tier.name in options.tier] if options.tier else list(TIERS)
    if given and not options.tier:
        chosen.remove(TIERS[0])  # whoever names tests wants these
    refused = _provide_packages(chosen) if options.all else ""
    outcomes = []
    for tier in chosen:
        if not (ROOT / tier.folder).is_dir():
            continue
        _announce(f"tier {tier.name}")
        result = _run(tier, given, has_paths=has_paths)
        if result is not None:
            outcomes.append(result)
    print(f"\n{outcome.table(outcomes)}" if outcomes else "\nno test matches")
    for result in outcomes:
        for reason, count in result.reasons.items():
            print(f"SKIPPED  {result.tier}: {count} × {reason}")
    if refused:
        print(f"INCOMPLETE  --all could not install system packages: {refused}")
    print(outcome.total(outcomes), flush=True)
    return 1 if refused or not outcomes or any(result.failed for result in outcomes) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/test", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--all", action="store_true", help="install missing system packages (as root, with apt)")
    parser.add_argument("--tier", action="append", default=[], choices=[tier.name for tier in TIERS])
    return parser


def _provide_packages(chosen: list[Tier]) -> str:
    """Install what the tiers lack; return why that was impossible, or an empty string."""
    missing = system_packages.missing_for(*(tier.name for tier in chosen))
    if not missing:
        return ""
    _announce(f"installing {', '.join(package.name for package in missing)}")
    return system_packages.install(missing)


def _run(tier: Tier, given: list[str], *, has_paths: bool) -> Outcome | None:
    """Run one tier; None when it has no tests."""
    if tier.name == "check":
        return _run_checks()
    if missing := system_packages.missing_for(tier.name):
        return _skipped(tier, missing, pytest_arguments(tier, given, has_paths=has_paths))
    with tempfile.TemporaryDirectory() as folder:
        junit = Path(folder) / "junit.xml"
        started = time.monotonic()
        arguments = [*pytest_arguments(tier, given, has_paths=has_paths), f"--junitxml={junit}"]
        code = subprocess.run([sys.executable, "-m", "pytest", "-o", "junit_family=xunit2", *arguments]).returncode
        if code == NOTHING_COLLECTED:
            return None
        if code == 2 and not junit.is_file():
            raise KeyboardInterrupt
        return outcome.read(tier.name, junit, exit_code=code, seconds=time.monotonic() - started)


def _run_checks() -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "checks.json"
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "scripts.checks", "--json", str(found)])
        seconds = time.monotonic() - started
        if not found.is_file():
            return Outcome("check", failed=1, seconds=seconds)
        return replace(Outcome("check", **json.loads(found.read_text())), seconds=seconds)


def _skipped(tier: Tier, missing: list[system_packages.Package], arguments: list[str]) -> Outcome | None:
    """Say loudly what a tier lacks, and count the tests that are not run."""
    argv = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "--no-header", *arguments]
    listed = subprocess.run(argv, capture_output=True, text=True)
    if listed.returncode == NOTHING_COLLECTED:
        return None
    counts = [line.rpartition(":")[2] for line in listed.stdout.splitlines() if line.startswith("tests/")]
    number = sum(int(count) for count in counts if count.strip().isdigit())
    lacks = "; ".join(f"{package.name} ({package.purpose})" for package in missing)
    reason = f"missing: {lacks}. Run scripts/test --all as root, or apt install {' '.join(p.name for p in missing)}"
    print(f"!!! tier {tier.name} SKIPPED, {number} tests not run. {reason}", flush=True)
    return Outcome(tier.name, skipped=number, reasons={reason: number})


def _announce(text: str) -> None:
    print(f"\n=== {text} {'=' * max(0, 70 - len(text))}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
