"""Code that a model wrote is run confined, and only where the recipe says so."""

from __future__ import annotations

import pytest

from largeforge.errors import StageError
from largeforge.evaluators import code

CONFIG = code.Config(path="rows.jsonl", allow_execution=True, timeout_s=20, memory_mib=256)

HARMFUL = {
    "a connection": "import socket; socket.socket()",
    "another process": "import os; os.fork()",
    "a program": "import os; os.execv('/bin/true', ['true'])",
    "a signal": "import os; os.kill(os.getppid(), 0)",
    "a file elsewhere": "open('{elsewhere}', 'w')",
    "reading a file elsewhere": "open('{elsewhere}/../secret')",
    "memory": "bytearray(10**9)",
    "an early end": "import os; os._exit(0)",
}


def test_answers_pass_the_tests_of_their_row(answering):
    subject = answering({
        "right": ("Here:\n```python\ndef add(a, b):\n    return a + b\n```\nDone.", ""),
        "wrong": ("def add(a, b):\n    return a - b", ""),
        "broken": ("def add(a, b) return", ""),
    }, tests=["assert add(1, 2) == 3", "assert add(-1, 1) == 0"])  # fmt: skip
    assert code.run(CONFIG, subject)["code_pass"].values == [1.0, 0.0, 0.0]
    assert "AssertionError" in subject.samples[1]["answer"]
    assert "SyntaxError" in subject.samples[2]["answer"]
    assert "confined" in subject.notes[0]


@pytest.mark.parametrize("what", HARMFUL)
def test_code_cannot_have(what, tmp_path):
    if code.confinement(CONFIG) and what not in ("memory", "an early end"):
        pytest.skip("this kernel has no seccomp or Landlock")
    (tmp_path / "secret").write_text("s")
    (tmp_path / "elsewhere").mkdir()
    source = HARMFUL[what].format(elsewhere=tmp_path / "elsewhere")
    assert code.run_one(CONFIG, source, "assert True") != "passed"


def test_code_has_what_it_needs():
    source = "import json, re, threading\nopen('own', 'w').write('x')\nt = threading.Thread(target=len, args=['x'])\n"
    assert code.run_one(CONFIG, f"{source}t.start(); t.join()\nprint('word')", "assert open('own').read() == 'x'") == (
        "passed"
    )


def test_code_without_end_is_ended():
    assert "took more than 0.2 s" in code.run_one(code.Config(timeout_s=0.2), "while True: pass", "assert True")


def test_nothing_runs_unless_the_recipe_says_so(answering):
    assert [problem.key for problem in code.check(code.Config(path="x"))] == ["allow_execution"]
    with pytest.raises(StageError, match="allow_execution: true"):
        code.run(code.Config(path="x"), answering({"?": ("print(1)", "")}, tests="assert True"))


def test_a_row_without_tests_is_named(answering):
    with pytest.raises(StageError, match=r"rows\.jsonl:1: `tests`"):
        code.run(CONFIG, answering({"?": ("print(1)", "")}))


def test_a_machine_that_cannot_confine_is_refused(answering, monkeypatch):
    monkeypatch.setattr(code, "confinement", lambda config: ["network and processes"])
    with pytest.raises(StageError, match="cannot close network and processes"):
        code.run(CONFIG, answering({"?": ("print(1)", "")}, tests="assert True"))
