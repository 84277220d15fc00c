"""`scripts/test`: every test in one tier, numbers that add up, skips that are said aloud."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.tiers import outcome, system_packages
from scripts.tiers.outcome import Outcome
from scripts.tiers.system_packages import Package
from scripts.tiers.tiers import TIERS, files_with, pytest_arguments

ROOT = Path(__file__).resolve().parents[2]

PROJECT = """
import pytest
def test_good(): pass
def test_bad(): assert 1 == 2
@pytest.mark.skip(reason="no such thing here")
def test_skipped(): pass
@pytest.fixture
def broken(): raise RuntimeError("no")
def test_error(broken): pass
"""


def test_numbers_come_from_what_pytest_did(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(PROJECT)
    junit = tmp_path / "junit.xml"
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={junit}", "test_it.py"]
    ended = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)
    found = outcome.read("unit", junit, exit_code=ended.returncode, seconds=1.0)
    assert (found.passed, found.failed, found.skipped) == (1, 2, 1)
    assert found.reasons == {"no such thing here": 1}


def test_a_pytest_that_died_is_a_failure(tmp_path: Path) -> None:
    assert outcome.read("unit", tmp_path / "none.xml", exit_code=139, seconds=1.0).failed == 1


def test_the_last_line_is_the_sum() -> None:
    outcomes = [Outcome("check", 5), Outcome("unit", 10, 2, 1, 3.25), Outcome("system", skipped=4)]
    assert outcome.total(outcomes) == "15 passed, 2 failed, 5 skipped"
    assert outcome.table(outcomes).splitlines()[2] == "unit        10       2        1      3.2"


def test_marks_put_every_test_into_one_tier() -> None:
    from _pytest.mark.expression import Expression

    expressions = {tier.name: Expression.compile(tier.marks) for tier in TIERS if tier.marks}
    for marks in ((), ("recipes",), ("golden",), ("e2e",), ("system",), ("e2e", "system"), ("hosts",), ("gpu",)):
        tiers = [name for name, found in expressions.items() if found.evaluate(lambda name, **_: name in marks)]  # noqa: B023
        assert len(tiers) == 1, f"{marks}: {tiers}"


def test_paths_of_the_command_line_replace_the_tiers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("largeforge.processor.cores", lambda: 1)
    recipes = next(tier for tier in TIERS if tier.name == "recipes")
    assert pytest_arguments(recipes, ["-x"], has_paths=False) == ["-m", "recipes", "tests/recipes", "-x"]
    assert pytest_arguments(recipes, ["tests/data"], has_paths=True) == ["-m", "recipes", "tests/data"]


def test_files_run_side_by_side_as_far_as_cores_and_memory_go(monkeypatch: pytest.MonkeyPatch) -> None:
    unit, gpu = (next(tier for tier in TIERS if tier.name == name) for name in ("unit", "gpu"))
    monkeypatch.setattr("largeforge.processor.cores", lambda: 16)
    monkeypatch.setattr("largeforge.processor.memory_limit_gib", lambda: 25.0)
    spread = ["-n", "4", "--dist", "loadfile", "--no-loadscope-reorder"]
    assert pytest_arguments(unit, ["-x"], has_paths=False) == ["-m", unit.marks, *spread, "tests", "-x"]
    for words, has_paths in ((["--pdb"], False), (["tests/data"], True)):
        assert "-n" not in pytest_arguments(unit, words, has_paths=has_paths)
    assert "-n" not in pytest_arguments(gpu, [], has_paths=False)


def test_a_tier_of_a_mark_collects_every_file_that_sets_it_and_no_other(tmp_path: Path) -> None:
    for name, text in {
        "slow/test_all.py": "def test_it(): pass",
        "test_one.py": "@pytest.mark.slow\ndef test_it(): pass",
        "data/test_other.py": "pytestmark = [pytest.mark.slow]",
        "test_quick.py": "def test_it(): pass",
    }.items():
        path = tmp_path / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert files_with("slow", tmp_path / "tests") == ["tests/slow", "tests/data/test_other.py", "tests/test_one.py"]
    assert files_with("fast", tmp_path / "tests") == []
    tier = next(tier for tier in TIERS if tier.name == "e2e")
    assert pytest_arguments(tier, [], has_paths=False)[-len(files_with("e2e")) :] == files_with("e2e")
    assert {"tests/e2e", "tests/stages/test_serve.py"} <= set(files_with("e2e"))


def test_every_system_package_says_what_it_is_for() -> None:
    packages = system_packages.read()
    assert packages
    assert all(package.command and len(package.purpose) > 10 for package in packages)
    assert frozenset.union(*(package.tiers for package in packages)) <= {tier.name for tier in TIERS}


def test_each_tier_needs_its_own_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda command, **_: None)
    hosts = {package.name for package in system_packages.missing_for("hosts")}
    assert hosts == {"debootstrap", "iproute2", "openssh-client", "rsync"}
    system = {package.name for package in system_packages.missing_for("system")}
    assert {"chromium", "iproute2", "slurmctld"} <= system
    assert "debootstrap" not in system
    assert {package.name for package in system_packages.missing_for("unit", "hosts", "system")} == hosts | system
    assert not system_packages.missing_for("unit")


def test_a_tier_without_its_packages_is_skipped_aloud(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from scripts.tiers import __main__ as program

    monkeypatch.setattr("shutil.which", lambda command, **_: None if command == "debootstrap" else f"/bin/{command}")
    monkeypatch.setattr(sys, "argv", ["scripts/test", "--tier", "hosts"])
    assert program.main() == 0
    said = capsys.readouterr().out
    assert re.search(r"!!! tier hosts SKIPPED, \d+ tests not run. missing: debootstrap \(builds", said), said
    assert "or apt install debootstrap" in said
    assert re.search(r"^0 passed, 0 failed, \d+ skipped$", said, re.M)


def test_a_missing_command_is_found_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    there, gone = Package("a", "there", "testing"), Package("b", "no-such-command", "testing")
    (tmp_path / "there").write_text("")
    (tmp_path / "there").chmod(0o755)
    assert system_packages.missing([there, gone]) == [gone]


def test_without_root_it_is_said_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda command, **_: f"/usr/bin/{command}")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert system_packages.install([Package("x-y", "xy", "testing")]) == "not root; run: sudo apt-get install x-y"


def test_other_machines_cannot_be_reached_from_a_test() -> None:
    import socket

    with socket.socket() as connection, pytest.raises((RuntimeError, UserWarning), match=r"192\.0\.2\.1"):
        connection.connect(("192.0.2.1", 80))  # TEST-NET-1, RFC 5737
