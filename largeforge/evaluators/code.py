"""Share of answers whose Python passes the tests of its row (pass@1 with the greedy answer).

Chen et al., Evaluating Large Language Models Trained on Code (arXiv:2107.03374).

It runs what a model wrote, so it does nothing unless the recipe says `allow_execution: true`. Each answer runs in a
process of its own, which has given away network, other processes and foreign files where the system can do that
without root (`_confined.py` has the list). That is a seat belt for the mistakes of a model, and not a prison for
somebody who means harm: judge code of models that you do not trust in a virtual machine.

A row is {"prompt": text, "tests": Python that raises where the answer is wrong}; `tests` may be a list of lines.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from pydantic import Field

from largeforge.errors import Problem, StageError
from largeforge.judging.series import Series
from largeforge.recipe.evaluation import AnswerEvaluator

if TYPE_CHECKING:
    from largeforge.recipe.evaluation import Subject

DATA_KINDS = ("sft", "prompt")
METRICS = ("code_pass",)
JUDGES = "answers"

_FENCED = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:\n```|\Z)", re.IGNORECASE | re.DOTALL)
_LAST_BYTES = 4096
"""How much is read of what code has printed."""
_SCRIPT = Path(__file__).with_name("_confined.py")


class Config(AnswerEvaluator):
    """Settings of code that must pass tests."""

    name: Literal["code"] = "code"
    allow_execution: bool = False
    """Whether what the model writes may be run on this machine; without it the evaluator is refused."""
    timeout_s: float = Field(default=5.0, gt=0)
    """Longest that one answer may run with its tests."""
    memory_mib: int = Field(default=512, ge=64)
    """Most address space that it may take."""
    require_isolation: bool = True
    """Whether to refuse machines where network, processes or files cannot be closed to it."""
    num_workers: int = Field(default=0, ge=0)
    """Answers that run at once; 0 means one for each core."""


def check(config: Config) -> Iterator[Problem]:
    """Yield what is wrong between the settings, with keys below the evaluator."""
    if not config.allow_execution:
        rule = "must be true to run what a model writes on this machine; docs/evaluation.md says how it is confined."
        yield Problem("allow_execution", rule)
    if not config.path:
        yield Problem("path", 'is required: a JSONL file, each row {"prompt": "...", "tests": "assert f(1) == 2"}.')


def run(config: Config, subject: Subject) -> dict[str, Series]:
    """Return `code_pass`.

    Raises StageError for a row without tests, and where the machine cannot confine what is run.
    """
    if not config.allow_execution:
        raise StageError("code is not run: the recipe does not say allow_execution: true")
    tests = [_tests(row) for row in subject.rows]
    missing = confinement(config)
    if missing and config.require_isolation:
        raise StageError(
            f"this machine cannot close {' and '.join(missing)} to the code of a model without root (Linux with seccomp"
            " and Landlock can); run it in a virtual machine with require_isolation: false, or leave the evaluator out"
        )
    subject.note(f"runs answers with {', '.join(missing)} open to them" if missing else "runs answers confined")
    places = list(range(len(subject.rows)))
    answers = subject.answers(places, max_new_tokens=config.max_new_tokens, batch_size=config.batch_size)
    with ThreadPoolExecutor(config.num_workers or os.cpu_count() or 1) as pool:
        outcomes = list(pool.map(lambda pair: run_one(config, *pair), zip(map(program, answers), tests, strict=True)))
    for place, answer, outcome in zip(places, answers, outcomes, strict=True):
        score = float(outcome == "passed")
        subject.sample(place, "code_pass", expected=tests[place], answer=f"{answer.strip()}\n# {outcome}", score=score)
    return {"code_pass": Series([float(outcome == "passed") for outcome in outcomes])}


def program(answer: str) -> str:
    """Return the Python of an answer: its first code block, or all of it."""
    block = _FENCED.search(answer)
    return block[1] if block else answer


def confinement(config: Config) -> list[str]:
    """Return what this machine cannot close to the code of a model."""
    outcome, missing = _run(config, "", "")
    if outcome != "passed":
        raise StageError(f"code cannot be run in a confined process here: {outcome}")
    return missing


def run_one(config: Config, code: str, tests: str) -> str:
    """Return `passed`, or in a few words why code did not pass its tests."""
    return _run(config, code, tests)[0]


def _run(config: Config, code: str, tests: str) -> tuple[str, list[str]]:
    word = secrets.token_hex(16)
    task = json.dumps({"code": code, "tests": tests, "word": word}).encode()
    with (
        tempfile.TemporaryDirectory(prefix="largeforge-code-") as folder,
        tempfile.TemporaryFile() as out,  # files, since the limit of their size holds what code prints
        tempfile.TemporaryFile() as said,
    ):
        limits = [str(int(config.timeout_s) + 1), str(config.memory_mib), folder]
        process = subprocess.Popen(
            [sys.executable, "-I", str(_SCRIPT), *limits], stdin=subprocess.PIPE, stdout=out, stderr=said, cwd=folder,
            env={"HOME": folder, "TMPDIR": folder, "PATH": "/usr/bin:/bin"}, start_new_session=True,
        )  # fmt: skip
        try:
            process.communicate(task, timeout=config.timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return f"took more than {config.timeout_s:g} s", []
        lines, reason = _lines(out), _lines(said)
    if len(lines) == 2 and lines[1] == word:
        return "passed", json.loads(lines[0])
    return (reason[-1][:200] if reason else f"ended with code {process.returncode}"), []


def _lines(stream: IO[bytes]) -> list[str]:
    stream.seek(max(0, stream.seek(0, os.SEEK_END) - _LAST_BYTES))
    return stream.read().decode(errors="replace").strip().splitlines()


def _tests(row: dict[str, Any]) -> str:
    tests = row.get("tests")
    if isinstance(tests, list):
        tests = "\n".join(map(str, tests))
    if not isinstance(tests, str) or not tests.strip():
        raise StageError(f"{row.get('source', 'a row')}: `tests` must be Python that raises where an answer is wrong")
    return tests
