"""Ask a gateway without a pause until SIGTERM, and write down what was not answered.

    client.py URL MODEL REPORT TIMEOUT_S [MORE]

Half of the connections stream; every request is of another user. MORE is JSON that requests have besides. The report
is JSON: how many were answered by which model, since when, every failure, and the longest time without an answer to any
connection.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
import uuid
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

CONNECTIONS = 4


def main(url: str, model: str, report: str, timeout_s: str, more: str = "{}") -> None:
    """Ask until told to stop."""
    over, lock = threading.Event(), threading.Lock()
    answered: Counter[str] = Counter()
    first: dict[str, float] = {}
    at: list[float] = []
    failures: list[dict[str, Any]] = []
    signal.signal(signal.SIGTERM, lambda *_: over.set())

    def ask(number: int) -> None:
        messages = [{"role": "user", "content": "Hello"}]
        body = {"model": model, "messages": messages, "stream": bool(number % 2), **json.loads(more)}
        with httpx.Client(trust_env=False, timeout=float(timeout_s)) as client:
            while not over.is_set():
                failure, body["user"] = "", uuid.uuid4().hex
                try:
                    answer = client.post(f"{url}/v1/chat/completions", json=body)
                    if answer.status_code != 200:
                        failure = f"{answer.status_code} {answer.text[:200]}"
                    elif body["stream"] and not answer.text.rstrip().endswith("data: [DONE]"):
                        failure = f"a stream broke off: {answer.text[-100:]}"
                except httpx.HTTPError as error:
                    failure = f"{type(error).__name__}: {error}"
                with lock:
                    if failure:
                        failures.append({"at": round(time.time(), 2), "failure": failure})
                    else:
                        model_asked = answer.headers["x-largeforge-model"]
                        answered[model_asked] += 1
                        at.append(time.time())
                        first.setdefault(model_asked, at[-1])
                time.sleep(0.02)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    print("asking", flush=True)
    for thread in threads:
        thread.join()
    longest = max((after - before for before, after in pairwise(at)), default=0.0)
    found = {"answered": answered, "failures": failures, "first": first, "longest_gap_s": round(longest, 2)}
    Path(report).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
