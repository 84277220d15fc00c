"""A real gateway process, operated from the command line, by signals, and by a recipe."""

from __future__ import annotations

import asyncio
import json
import signal
import threading

import httpx
import pytest

from largeforge.cli import main
from largeforge.commands import gateway as command
from largeforge.gateway.admin.state import MODES

RECIPE = """\
# @package _global_
# Serves two models.
defaults: [{/topology: single}, {/router: rules}, _self_]
name: two
topology:
  experts:
    general: {model: "path:/models/a"}
    support: {model: "path:/models/b"}
  flags: {new: false}
router: {rules: [{name: new, when: {flag: new}, expert: support}]}
gateway: {port: 0, health_interval_s: 0.05}
serve: true
"""


def test_the_command_knows_all_modes():
    assert command.MODES == MODES


def operate(process, capsys, *words):
    code = main(["gateway", "--url", process.url, *words])
    return code, *capsys.readouterr()


def chat(process, text="hi", **fields):
    body = {"messages": [{"role": "user", "content": text}], **fields}
    return httpx.post(process.url + "/v1/chat/completions", json=body, trust_env=False)


def test_shows_and_sets_what_is_in_force(process, capsys):
    code, out, _ = operate(process, capsys)
    assert code == 0
    assert "normal  ready, 0 in flight" in out
    assert out.count(" up ") == 2
    code, out, _ = operate(process, capsys, "isolate", "expert", "support", "--reason", "answers [nonsense]")
    assert "emergency (normal)  ready" in out
    assert "answers [nonsense]" in out
    assert chat(process, "my order").headers["x-largeforge-expert"] == "general"
    operate(process, capsys, "release", "expert", "support")
    assert chat(process, "my order").headers["x-largeforge-expert"] == "support"
    code, out, _ = operate(process, capsys, "mode", "maintenance", "--reason", "disks", "--json")
    assert (json.loads(out)["mode"], chat(process).status_code) == ("maintenance", 503)


def test_waits_for_what_is_running(process, threaded_fakes, capsys):
    fake = threaded_fakes["general"].fake
    fake.finish = asyncio.Event()
    answered = []
    asking = threading.Thread(target=lambda: answered.append(chat(process).status_code))
    asking.start()
    fake.arrived.wait()
    server = threaded_fakes["general"].url
    code, _, error = operate(process, capsys, "drain", server, "--wait", "--timeout", "0.2")
    assert (code, "1 requests are still" in error, answered) == (1, True, [])
    threading.Timer(0.3, lambda: threaded_fakes["general"].do(fake.finish.set)).start()
    code, out, _ = operate(process, capsys, "drain", server, "--wait")
    asking.join()
    assert (code, answered) == (0, [200])
    assert "1 request is still being answered" in out
    assert f"{server}  drained" in out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("isolate", "expert", "suport"), 1, "Did you mean 'support'?"),
        (("drain", "http://127.0.0.1:1"), 1, "there is no 'http://127.0.0.1:1'"),
        (("--url", "http://127.0.0.1:1", "show"), 1, "http://127.0.0.1:1 cannot be reached"),
        (("--url", "nowhere"), 1, "nowhere"),
    ],
)
def test_mistakes_are_told(process, capsys, words, code, said):
    found, _, error = operate(process, capsys, *words)
    assert (found, said in error) == (code, True), error
    assert "Traceback" not in error


def test_a_recipe_is_taken_up_and_one_with_other_models_is_not(start, threaded_fakes, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "two.yaml").write_text(RECIPE)
    running = start({name: fake.url for name, fake in threaded_fakes.items()})
    served = httpx.get(running.url + "/admin/config", trust_env=False, headers=running.operates).json()
    for name, model in (("general", "path:/models/a"), ("support", "path:/models/b")):
        served["topology"]["experts"][name] = {"model": model}
    served["router"] = {"name": "keyword"}
    answer = httpx.put(running.url + "/admin/config", json=served, trust_env=False, headers=running.operates)
    assert answer.status_code == 200, answer.text
    assert chat(running).headers["x-largeforge-expert"] == "general"
    code, _, error = operate(running, capsys, "reload", "+recipe=two", "topology.flags.new=true")
    assert code == 0, error
    assert chat(running).headers["x-largeforge-expert"] == "support"
    code, _, error = operate(running, capsys, "reload", "+recipe=two", "topology.experts.support.model=path:/models/c")
    assert code == 2
    assert "topology.experts.support.model = 'path:/models/c': was 'path:/models/b'" in error
    code, _, error = operate(running, capsys, "reload", "+recipe=two", "topology.experts.more.model=path:/models/c")
    assert (code, "topology.experts.more" in error) == (2, True), error


def test_sighup_reads_the_file_again_and_a_wrong_one_changes_nothing(process, tmp_path):
    path = tmp_path / "gateway0.json"
    values = json.loads(path.read_text())
    values["topology"]["experts"]["support"]["keywords"] = ["parcel"]
    path.write_text(json.dumps(values))
    process.child.send_signal(signal.SIGHUP)
    while chat(process, "my parcel").headers["x-largeforge-expert"] != "support":
        pass
    path.write_text(json.dumps({**values, "topology": {**values["topology"], "fallback": "nobody"}}))
    process.child.send_signal(signal.SIGHUP)
    assert httpx.post(process.url + "/admin/reload", trust_env=False, headers=process.operates).status_code == 400
    assert chat(process, "my parcel").headers["x-largeforge-expert"] == "support"
    process.child.send_signal(signal.SIGTERM)
    code, _, err = process.finish()
    assert code == 0
    assert "'nobody' is none of" in next(line for line in err.splitlines() if "not reloaded" in line)
