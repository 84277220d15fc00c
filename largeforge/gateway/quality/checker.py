"""The process that judges, from the gateway's side: started when it is first needed, ended when it takes too long."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Any

import orjson

START_TIMEOUT_S = 60.0
CHECK_TIMEOUT_S = 2.0
"""Longest time for one question."""
COMMAND = (sys.executable, "-m", "largeforge.gateway.quality.checking")


class CheckFailed(Exception):
    """There is no verdict; the message is why, in one word."""


class Checker:
    """Asks one question after the other."""

    def __init__(self, command: tuple[str, ...] = COMMAND, *, timeout_s: float = CHECK_TIMEOUT_S):
        self._command = command
        self._timeout_s = timeout_s
        self._process: asyncio.subprocess.Process | None = None

    async def ask(self, question: dict[str, Any]) -> list[bool]:
        """Return the verdicts on a question.

        Raises CheckFailed; a process that was too slow or has died is started anew for the next one.
        """
        try:
            process = self._process or await self._start()
            assert process.stdin is not None
            async with asyncio.timeout(self._timeout_s):
                process.stdin.write(orjson.dumps(question) + b"\n")
                await process.stdin.drain()
                said = await _heard(process)
        except TimeoutError:
            await self.stop()
            raise CheckFailed("timeout") from None
        except (OSError, orjson.JSONDecodeError):
            await self.stop()
            raise CheckFailed("died") from None
        except asyncio.CancelledError:
            await self.stop()  # its verdict would be taken for that of the next question
            raise
        if missing := said.get("missing"):
            raise CheckFailed(f"no-{missing}")
        if not said["good"]:
            raise CheckFailed("unreadable")
        verdicts: list[bool] = said["good"]
        return verdicts

    async def stop(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _start(self) -> asyncio.subprocess.Process:
        self._process = process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        async with asyncio.timeout(START_TIMEOUT_S):
            await _heard(process)
        return process


async def _heard(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    found: dict[str, Any] = orjson.loads(await process.stdout.readline())
    return found
