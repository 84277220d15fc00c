"""Run a load test: the tool as a child process for each rate, from its start to its end.

Should this process be killed, the reaper above the tool ends it. What was answered is in the tool's result for a moment
and is removed as soon as it is read; its log has none of it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from largeforge import reaper
from largeforge.errors import LoadTestError
from largeforge.loadtest import prompts, tool
from largeforge.loadtest.report import Report
from largeforge.loadtest.result import step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from largeforge.loadtest.result import Step
    from largeforge.recipe.schema import LoadTest

STARTUP_TIMEOUT_S = 600.0
"""The tool imports vLLM and makes its prompts before it sends the first."""
GRACE_S = 2.0
POLL_S = 0.2
TOLD_EVERY_S = 5.0
_BEGUN = "Starting main benchmark run"
_DONE = re.compile(r"(\d+)/(\d+) \[")
_LAST_WORDS = 15
_NOISE = re.compile(r"nanobind: | - (leaked|\.\.\. skipped)|See https://nanobind")
"""What a library of the tool says at every end."""


def run(
    section: LoadTest,
    url: str,
    *,
    tokenizer: str,
    work_folder: Path,
    report: Callable[[str], None],
    progress: Callable[[int, int], None] | None = None,
    watch: Callable[[], None] = lambda: None,
    python: str = "",
    api_key: str = "",
    ca: str = "",
) -> Report:
    """Send requests at each rate, from the lowest up, and return what was measured.

    The section is complete (`LoadTest.completed`), `url` is the gateway's without `/v1`, `tokenizer` the folder of the
    model that is asked, `python` the interpreter that has vLLM, `ca` a file of authorities to trust. `report` is told
    of it in words, also every few seconds how many are answered, unless `progress` takes that; `watch` is called now
    and then and may raise to end the test.
    Raises DataError for rows that ask nothing, LoadTestError when the tool fails or nobody answers.
    """
    given = prompts.requests(section.path) if section.path else []
    steps: list[Step] = []
    for rate in section.rates:
        count = section.count(rate)
        folder = work_folder / f"load_test-{rate:g}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        rows = str(folder / "requests.jsonl") if given else ""
        if rows:
            prompts.write(given, Path(rows), count=count, seed=tool.seed(section, rate))
        report(f"load test at {rate:g} requests/s: {count} requests{_again(len(given), count)}")
        argv = tool.command(section, rate, url=url, tokenizer=tokenizer, folder=folder, rows=rows, python=python)
        child = _Tool(
            argv, tool.environment(url, tokenizer, api_key=api_key, ca=ca), folder, title=f"{rate:g} requests/s"
        )
        told = progress or _spoken(report, rate)
        try:
            child.run(told, watch, count=count, limit_s=count / rate + section.drain_timeout_s)
            steps.append(step(json.loads((folder / tool.RESULT).read_text(encoding="utf-8")), slo=section.slo))
        finally:
            (folder / tool.RESULT).unlink(missing_ok=True)
            (folder / "requests.jsonl").unlink(missing_ok=True)
        _tell(steps, report)
    return Report(section, tuple(steps))


class _Tool:
    """The tool in a process of its own."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], folder: Path, *, title: str):
        self._argv = list(argv)
        self._environment = {**os.environ, **environment}
        self._folder = folder
        self._log = folder / "tool.log"
        self._title = title

    def run(
        self, progress: Callable[[int, int], None], watch: Callable[[], None], *, count: int, limit_s: float
    ) -> None:
        """Run to the end; the time limit begins with the first request."""
        process = self._start()
        started, begun, told = time.monotonic(), 0.0, 0.0
        try:
            while process.poll() is None:
                watch()
                now, said = time.monotonic(), self._said()
                begun = begun or (now if _BEGUN in said else 0.0)
                if begun and now - begun > limit_s:
                    raise LoadTestError(self._late(said, count, limit_s))
                if not begun and now - started > STARTUP_TIMEOUT_S:
                    raise LoadTestError(f"the load tool sent nothing in {STARTUP_TIMEOUT_S:g} s{self._last_words()}")
                if begun and now - told >= (TOLD_EVERY_S if told else 0):
                    told = now
                    progress(_done(said), count)
                time.sleep(POLL_S)
        finally:
            self._stop(process)
        if process.returncode or not (self._folder / tool.RESULT).is_file():
            raise LoadTestError(self._fault(process.returncode))
        progress(count, count)

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("wb") as log:
            return subprocess.Popen(
                reaper.command(self._argv, grace_s=GRACE_S), stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, env=self._environment, cwd=self._folder, start_new_session=True,
            )  # fmt: skip

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            process.terminate()
        process.wait()

    def _said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def _late(self, said: str, count: int, limit_s: float) -> str:
        return (
            f"load test at {self._title}: {_done(said)} of {count} requests are answered {limit_s:.0f} s after the "
            "first was sent; send fewer in a second, or wait longer for answers with load_test.drain_timeout_s"
        )

    def _fault(self, code: int) -> str:
        if "No module named 'vllm'" in self._said():
            return (
                f"{self._argv[0]} has no vLLM, whose `vllm bench serve` sends the load; set serving.python to the "
                "interpreter that has it"
            )
        return f"load test at {self._title}: the tool ended with exit code {code}{self._last_words()}"

    def _last_words(self) -> str:
        lines = [
            line for line in self._said().replace("\r", "\n").splitlines() if line.strip() and not _NOISE.match(line)
        ]
        return "\n".join([":", *lines[-_LAST_WORDS:], f"Log: {self._log}"])


def _done(said: str) -> int:
    """Return how many requests the tool's bar counts."""
    found = _DONE.findall(said.rpartition(_BEGUN)[2])
    return int(found[-1][0]) if found else 0


def _spoken(report: Callable[[str], None], rate: float) -> Callable[[int, int], None]:
    return lambda done, count: report(f"load test at {rate:g} requests/s: {done} of {count} answered")


def _again(rows: int, count: int) -> str:
    """Return what to say where rows are asked again: the prefix cache then makes them cheaper than new ones."""
    return f", of {rows} rows, some more than once: the prefix cache has them" if 0 < rows < count else ""


def _tell(steps: Sequence[Step], report: Callable[[str], None]) -> None:
    """Say what a step has shown.

    Raises LoadTestError when nobody has answered at this rate or a lower one.
    """
    last = steps[-1]
    title, known = f"load test at {last.requests_per_second:g} requests/s", last.metrics
    why = ", ".join(f"{reason} ({count})" for reason, count in last.errors.items())
    if not any(one.metrics["completed"] for one in steps):
        hint = "; a prompt with its answer may be longer than the model takes" if "Bad Request" in last.errors else ""
        raise LoadTestError(f"{title}: none of {known['sent']:.0f} requests was answered: {why}{hint}")
    if last.errors:
        report(f"{title}: {known['failed']:.0f} of {known['sent']:.0f} requests failed: {why}")
    if not last.keeps_rate:
        report(f"{title}: only {known['sent_per_s']:.3g}/s were sent, this machine is too slow to send more")
    shown = [f"{name} {_value(known[key])} ms" for name, key in _SHOWN.items()]
    share = known["goodput_share"] or 0
    report(f"{title}: {', '.join(shown)}, goodput {share:.1%}")


_SHOWN = {"ttft p95": "ttft_p95_ms", "inter-token p95": "inter_token_p95_ms", "e2e p95": "e2e_p95_ms"}


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
