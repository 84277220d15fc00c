"""The program on a gateway's host that keeps rollouts: who comes late changes nothing, commands are for one rollout."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from largeforge.deploy import desired
from tests.deploy.rollouts.test_looking import document

sys.path.insert(0, str(desired.AGENT))
rolling = importlib.import_module("rolling")


def test_who_comes_late_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rollouts" / "a.json"
    early, late = document().next(1.0, document().groups), document()
    rolling.keep(str(path), early.text())
    rolling.keep(str(path), early.text())
    with pytest.raises(rolling.Late, match="gone on with by somebody else"):
        rolling.keep(str(path), late.text())
    rolling.keep(str(path), early.over("rolled_back", ("why",)).text())
    with pytest.raises(rolling.Late, match="rolled back by somebody else"):
        rolling.keep(str(path), early.next(9.0, early.groups).next(10.0, early.groups).text())
    assert json.loads(path.read_text())["ended"] == "rolled_back"


def test_the_oldest_rollouts_are_forgotten(tmp_path: Path) -> None:
    for number in range(rolling.KEPT + 3):
        rolling.keep(str(tmp_path / f"2026{number:04}.json"), document().text())
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left[0] == "20260003.json" and len(left) == rolling.KEPT


def test_a_command_is_taken_once_and_only_for_its_rollout(tmp_path: Path) -> None:
    left = tmp_path / "command.json"
    left.write_text(json.dumps({"do": "promote", "rollout": "the-last-one"}))
    assert rolling.taken(str(left), "this-one") is None and not left.exists()
    left.write_text(json.dumps({"do": "promote", "rollout": "this-one"}))
    assert rolling.taken(str(left), "this-one")["do"] == "promote"
    assert rolling.taken(str(left), "this-one") is None


def test_a_late_controller_is_told_on_a_host_of_any_umask(tmp_path: Path) -> None:
    path, program = tmp_path / "rollouts" / "a.json", str(desired.AGENT / "rolling.py")
    order = {"path": str(path), "text": document().text(), "url": "http://127.0.0.1:1", "token": "", "tls": {}}
    argv = ["sh", "-c", 'umask 077; exec "$@"', "sh", sys.executable, program]
    first = subprocess.run(argv, input=json.dumps(order), capture_output=True, text=True)
    assert first.returncode == 1, "no gateway answers"
    assert path.stat().st_mode & 0o777 == 0o644 and path.parent.stat().st_mode & 0o777 == 0o755
    rolling.keep(str(path), document().over("promoted", ()).text())
    late = subprocess.run(argv, input=json.dumps(order), capture_output=True, text=True)
    assert late.returncode == 1 and late.stderr == "this rollout was promoted by somebody else meanwhile\n"
