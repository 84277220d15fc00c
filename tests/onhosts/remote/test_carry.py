"""A job as its unit carries it out, with neither systemd nor root."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from disk import hashes
from places import is_locked
from unit import unit_command

from tests.onhosts.remote.conftest import PROGRAMS


def test_work_holds_its_place_and_writes_down_what_it_made(base: Path) -> None:
    folder = base / "jobs/one"
    (folder / "stage/out").mkdir(parents=True)
    (base / "queue/cpu.lock").touch()
    made = "open('stage/out/a', 'w').write('x'); print('made', os.environ['TOLD'], flush=True)"
    code = f"import os, time; {made}; time.sleep(1)"
    told = {
        "id": "one-test", "attempt": 1, "places": ["cpu"], "queue": str(base / "queue"), "environment": {"TOLD": "it"},
        "argv": [sys.executable, "-c", code],
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(told))
    process = subprocess.Popen([sys.executable, str(PROGRAMS / "job.py"), "work", str(folder)], env={**os.environ})
    events = folder / "events-1.jsonl"
    while not (events.exists() and events.read_text()):
        assert process.poll() is None
    assert is_locked(str(base / "queue/cpu.lock"))
    assert process.wait(30) == 0
    assert not is_locked(str(base / "queue/cpu.lock"))
    assert events.read_text() == "made it\n"
    ended = json.loads((folder / "ended-1.json").read_text())
    assert ended["code"] == 0
    assert ended["files"] == hashes(str(folder / "stage/out")) and list(ended["files"]) == ["a"]


def test_what_the_unit_runs_at_its_end_writes_down_that_memory_ran_out(tmp_path: Path) -> None:
    job = {"id": "one", "attempt": 1, "unit": "one.service", "user": "ann", "what": "small", "who": "ann@desk"}
    (tmp_path / "job.json").write_text(json.dumps(job))
    words = unit_command(job, str(tmp_path))
    assert words[-4:] == [sys.executable, str(PROGRAMS / "job.py"), "work", str(tmp_path)]
    (last,) = (word.partition("=")[2] for word in words if word.startswith("ExecStopPost="))
    told = {**os.environ, "SERVICE_RESULT": "oom-kill", "EXIT_STATUS": "KILL"}
    subprocess.run(shlex.split(last), env=told, cwd="/", check=True)
    ended = json.loads((tmp_path / "ended-1.json").read_text())
    assert (ended["code"], ended["memory"], ended["status"]) == (None, True, "KILL")
