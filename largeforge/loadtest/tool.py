"""What to type to run the tool: one rate of a recipe's load test as a command line and an environment.

Pure: nothing is started and no file is read.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from largeforge.recipe.sections.load_test import PERCENTILES

if TYPE_CHECKING:
    from largeforge.recipe.schema import LoadTest

DRIVER = Path(__file__).with_name("driver.py")
RESULT = "result.json"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


def command(
    section: LoadTest, rate: float, *, url: str, tokenizer: str, folder: Path, rows: str = "", python: str = ""
) -> list[str]:
    """Return the command line that sends the requests of one rate, and writes `RESULT` into a folder.

    `url` is the gateway's without `/v1`, `tokenizer` a folder or a name on the hub, `rows` the file of requests.
    """
    random = None if rows else True
    options: dict[str, Any] = {
        "backend": "openai-chat",
        "base-url": url.rstrip("/"),
        "endpoint": "/v1/chat/completions",
        "model": section.expert,
        "tokenizer": tokenizer,
        "dataset-name": "random" if random else "custom",
        "custom-output-len": section.completion_tokens if rows else None,
        "random-input-len": random and section.prompt_tokens,
        "random-output-len": random and section.completion_tokens,
        "random-range-ratio": random and _spread(section),
        "num-prompts": section.count(rate),
        "request-rate": rate,
        "burstiness": section.burstiness,
        "max-concurrency": section.max_concurrency or None,
        "num-warmups": section.warm_up_requests,
        "seed": seed(section, rate),
        "temperature": 0,
        "goodput": _goodput(section),
        "percentile-metrics": "ttft,tpot,itl,e2el",
        "metric-percentiles": ",".join(map(str, PERCENTILES)),
        "save-result": True,
        "save-detailed": True,
        "result-dir": str(folder),
        "result-filename": RESULT,
    }
    words = [word for name, value in options.items() for word in _words(name, value)]
    return [python or sys.executable, str(DRIVER), rows, *words]


def environment(url: str, tokenizer: str, *, api_key: str = "", ca: str = "") -> dict[str, str]:
    """Return the variables that take the place of those that this process has; empty ones are as if unset.

    A key that is there for another service is not sent to the gateway, and the loopback has no proxy.
    """
    variables = {
        "OPENAI_API_KEY": api_key, "PYTHONUNBUFFERED": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
    }  # fmt: skip
    if ca:
        variables["SSL_CERT_FILE"] = ca
    if Path(tokenizer).is_absolute():
        variables["HF_HUB_OFFLINE"] = "1"
    if urlsplit(url).hostname in _LOOPBACK:
        variables |= dict.fromkeys(_PROXIES, "")
    return variables


def seed(section: LoadTest, rate: float) -> int:
    """Return the seed of one rate: each has prompts of its own, or those before would have filled the prefix cache."""
    return section.seed * 1000 + section.rates.index(rate)


def _spread(section: LoadTest) -> str:
    return json.dumps({"input": section.prompt_tokens_spread, "output": section.completion_tokens_spread})


def _goodput(section: LoadTest) -> list[str] | None:
    """Return the objectives under the tool's names; it does without them where there is none."""
    slo = section.slo
    given = {"ttft": slo.ttft_ms, "tpot": slo.inter_token_ms, "e2el": slo.e2e_ms}
    return [f"{name}:{limit:g}" for name, limit in given.items() if limit] or None


def _words(name: str, value: Any) -> list[str]:
    if value is None:
        return []
    if value is True:
        return [f"--{name}"]
    if isinstance(value, list):
        return [f"--{name}", *value]
    return [f"--{name}", str(value)]
