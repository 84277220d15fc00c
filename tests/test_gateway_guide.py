"""What docs/gateway.md shows works: its recipe is planned, its commands run against the gateway's own process."""

from __future__ import annotations

import json
import re
import shlex
import subprocess

import pytest

from largeforge.cli import main
from tests import guides
from tests.gateway.conftest import make_file, process, start, threaded_fakes  # noqa: F401 - fixtures

pytestmark = pytest.mark.usefixtures("socket_enabled")
GUIDE = guides.page("gateway")
LINES = [
    line
    for block in re.findall(r"^```bash\n(.*?)^```$", GUIDE, re.M | re.S)
    for line in block.replace("\\\n", "").splitlines()
]


def test_the_recipe_is_planned(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (recipe,) = guides.recipes(GUIDE)
    assert "replicated" in guides.planned_recipe(recipe, tmp_path, capsys)


def test_the_commands_do_what_they_say(process, threaded_fakes, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setenv("LARGEFORGE_GATEWAY_URL", process.url)
    assert len(LINES) > 12
    for line in LINES:
        given = line.replace("http://127.0.0.1:8080", process.url)
        given = given.replace("$LARGEFORGE_ADMIN_TOKEN", process.operates["authorization"].removeprefix("Bearer "))
        given = given.replace("http://127.0.0.1:8001", threaded_fakes["support"].url)
        words = shlex.split(given)
        if words[0] == "curl":
            done = subprocess.run([*words, "--noproxy", "*"], capture_output=True, text=True, timeout=30, check=True)
            assert "error" not in json.loads(done.stdout), line
        elif "+recipe=serve_quickstart" not in words:  # which serves other models than the gateway of this test
            assert main(words[3:]) == 0, (line, capsys.readouterr().err)
    shown = capsys.readouterr().out
    assert "maintenance · new disks  not ready" in shown
    assert re.search(r"support +http\S+ +isolated +0 +answers nonsense", shown)
    assert "tenant acme is isolated: runs a loop" in shown
    assert f"{threaded_fakes['support'].url}  drained" in shown
