"""Ask a judge behind an OpenAI-compatible endpoint: side by side, with retries, within limits, and never twice.

Every answer is written down in the evaluator's folder as it comes, so that a run which was killed goes on where it was,
and kept in the cache, so that a later run asks and pays only for what is new. The key is read from its variable of the
environment when a question is asked; it stands in no file and no message.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from largeforge import cache
from largeforge.artifacts import append_line, digest, write_json
from largeforge.errors import Problem, StageError
from largeforge.recipe.evaluation import AnswerEvaluator

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from largeforge.recipe.evaluation import Pair, Subject

Messages = list[dict[str, str]]

LEDGER, SPENT = "judged.jsonl", "spent.json"
_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
"""Statuses after which a question is asked again."""
_LONGEST_WAIT_S = 60.0
_MILLION = 1_000_000


class JudgedEvaluator(AnswerEvaluator):
    """Settings of evaluators that ask a judge."""

    endpoint: str = Field(default="", pattern=r"^(https?://[^\s?#]+)?$")
    """Base address of an OpenAI-compatible API, such as `http://127.0.0.1:8000/v1` of a vLLM."""
    model: str = ""
    """Name under which the endpoint knows the judge."""
    api_key_env: str = Field(default="", pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$")
    """Variable of the environment that holds the endpoint's key; empty for an endpoint without one."""
    temperature: float = Field(default=0.0, ge=0)
    """How freely the judge writes; 0 so that it says the same tomorrow."""
    judge_tokens: int = Field(default=512, gt=0)
    """Longest reply of the judge in tokens."""
    concurrency: int = Field(default=8, ge=1)
    """Questions that are asked at once."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Longest wait for one reply."""
    num_retries: int = Field(default=5, ge=0)
    """How often a question is asked again after an overload or a lost connection, waiting longer each time."""
    usd_per_million_prompt_tokens: float = Field(default=0.0, ge=0)
    """Price of what the judge reads; 0 for one that costs nothing."""
    usd_per_million_answer_tokens: float = Field(default=0.0, ge=0)
    """Price of what the judge writes."""
    max_cost_usd: float = Field(default=0.0, ge=0)
    """Cost at which the evaluation stops with what was judged kept; what is in flight then still costs. 0: no limit."""
    max_requests: int = Field(default=0, ge=0)
    """Requests after which it stops in the same way, retries counted; 0 for no limit."""
    reuse: bool = True
    """Whether what this judge replied to the very same question in an earlier run counts again, and costs nothing."""


@dataclass
class Spent:
    """What the questions of one evaluator have cost, in this run and in its earlier sittings."""

    requests: int = 0
    reused: int = 0
    """Replies of earlier runs, which cost nothing."""
    prompt_tokens: int = 0
    answer_tokens: int = 0
    usd: float = 0.0

    def __str__(self) -> str:
        asked = f"{self.requests} requests" + (f" and {self.reused} replies of earlier runs" if self.reused else "")
        return f"{asked}, {self.prompt_tokens} prompt and {self.answer_tokens} answer tokens, {self.usd:.4f} USD"


def check_judge(config: JudgedEvaluator) -> Iterator[Problem]:
    """Yield what is missing of a judge, with keys below the evaluator."""
    if not config.endpoint:
        yield Problem("endpoint", "is required: the address of an OpenAI-compatible API, such as http://host:8000/v1.")
    if not config.model:
        yield Problem("model", "is required: the name under which the endpoint knows the judge.")
    if config.max_cost_usd and not (config.usd_per_million_prompt_tokens or config.usd_per_million_answer_tokens):
        rule = "needs the judge's prices: set usd_per_million_prompt_tokens and usd_per_million_answer_tokens."
        yield Problem("max_cost_usd", rule)


class Judge:
    """A judge with the ledger of what it was asked; `told` is asked for tokens, and told the progress."""

    def __init__(self, config: JudgedEvaluator, told: Subject | Pair):
        self.config, self.told = config, told
        self.ledger: Path = told.work / LEDGER
        self.spent = Spent()
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()
        self._stopped = ""
        self._read()

    def ask(self, questions: Sequence[Messages]) -> list[str]:
        """Return the reply to each question; those that were answered before are not asked again.

        Raises StageError when the endpoint refuses or stays away, and where a limit of the recipe is reached.
        """
        keys = [self._key(question) for question in questions]
        new = {key: question for key, question in zip(keys, questions, strict=True) if key not in self._known}
        self._reuse(new)
        open_ = [(key, question) for key, question in new.items() if key not in self._known]
        done = len(questions) - len(open_)
        pool = ThreadPoolExecutor(self.config.concurrency)
        try:
            for future in as_completed([pool.submit(self._one, key, question) for key, question in open_]):
                future.result()
                done += 1
                self.told.progress(done, len(questions))
        except BaseException:
            self._stopped = self._stopped or "another question failed"
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            write_json(self.told.work / SPENT, asdict(self.spent))
        return [self._known[key] for key in keys]

    def _key(self, question: Messages) -> str:
        config = self.config
        return digest([config.endpoint, config.model, config.temperature, config.judge_tokens, question])

    def _read(self) -> None:
        """Take in what was asked before this run was interrupted; a line that was cut off is asked again."""
        if not self.ledger.is_file():
            return
        for line in self.ledger.read_text(encoding="utf-8").split("\n"):
            try:
                entry = json.loads(line)
                key, reply = str(entry["key"]), entry["reply"]
                self._count(entry)
                self.spent.requests += 0 if entry.get("reused") else 1
                self._known[key] = str(reply)
            except (ValueError, KeyError, TypeError):
                continue

    def _reuse(self, new: dict[str, Messages]) -> None:
        for key in new if self.config.reuse else ():
            if isinstance(reply := cache.lookup("judged", key), str):
                self._enter({"key": key, "reply": reply, "reused": True})

    def _one(self, key: str, question: Messages) -> None:
        reply, usage = self._request(question)
        prompt, answer = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if not isinstance(prompt, int) or not isinstance(answer, int):  # an endpoint that does not count
            prompt = sum(self.told.count_tokens(message["content"]) for message in question)
            answer = self.told.count_tokens(reply)
        config = self.config
        usd = prompt * config.usd_per_million_prompt_tokens + answer * config.usd_per_million_answer_tokens
        counted = {"prompt_tokens": prompt, "answer_tokens": answer, "usd": usd / _MILLION}
        self._enter({"key": key, "reply": reply, **counted, "messages": question})
        if config.reuse:
            cache.keep("judged", key, reply)

    def _enter(self, entry: dict[str, Any]) -> None:
        with self._lock:
            append_line(self.ledger, json.dumps(entry, ensure_ascii=False))
            self._known[entry["key"]] = entry["reply"]
            self._count(entry)

    def _count(self, entry: dict[str, Any]) -> None:
        self.spent.reused += bool(entry.get("reused"))
        self.spent.prompt_tokens += int(entry.get("prompt_tokens", 0))
        self.spent.answer_tokens += int(entry.get("answer_tokens", 0))
        self.spent.usd += float(entry.get("usd", 0.0))

    def _request(self, question: Messages) -> tuple[str, dict[str, Any]]:
        """Return the reply to a question, and what the endpoint counted."""
        config, said = self.config, ""
        body = {
            "model": config.model, "messages": question, "temperature": config.temperature,
            "max_tokens": config.judge_tokens,
        }  # fmt: skip
        for attempt in range(config.num_retries + 1):
            self._may_ask()
            wait = min(2.0**attempt, _LONGEST_WAIT_S) * (0.5 + random.random())
            try:
                answer = self._post(body)
                content = answer["choices"][0]["message"]["content"]
                return str(content or ""), answer.get("usage") or {}
            except urllib.error.HTTPError as error:
                said = f"{error.code} {self._shown(error.read())}"
                if error.code not in _AGAIN:
                    raise StageError(f"{self._title} refuses: {said}") from None
                after = error.headers.get("retry-after", "")
                wait = min(float(after), _LONGEST_WAIT_S) if after.replace(".", "", 1).isdigit() else wait
            except (ValueError, KeyError, IndexError, TypeError) as error:
                raise StageError(f"{self._title} does not answer as OpenAI's API: {type(error).__name__}") from None
            except (OSError, http.client.HTTPException) as error:
                said = self._shown(str(getattr(error, "reason", error)).encode())
            if attempt < config.num_retries:
                time.sleep(wait)
        raise StageError(f"{self._title} did not answer in {config.num_retries + 1} attempts: {said}")

    @property
    def _title(self) -> str:
        return f"the judge {self.config.model} at {self.config.endpoint}"

    def _may_ask(self) -> None:
        """Raise StageError where a limit is reached, or another question has failed."""
        config, spent = self.config, self.spent
        with self._lock:
            over = ""
            if config.max_requests and spent.requests >= config.max_requests:
                over = f"max_requests={config.max_requests}"
            if config.max_cost_usd and spent.usd >= config.max_cost_usd:
                over = f"max_cost_usd={config.max_cost_usd:g}"
            if over and not self._stopped:
                kept = "what was judged is kept and not paid again" if config.reuse else "what was judged is kept"
                self._stopped = f"stopped at {over} ({spent}); {kept}: raise the limit and run again"
            if self._stopped:
                raise StageError(f"{self._title}: {self._stopped}")
            spent.requests += 1

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        key = self._api_key()
        headers = {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}
        address = f"{self.config.endpoint.rstrip('/')}/chat/completions"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)
        with _opener().open(request, timeout=self.config.timeout_s) as response:
            found: dict[str, Any] = json.loads(response.read())
        return found

    def _api_key(self) -> str:
        name = self.config.api_key_env
        key = os.environ.get(name, "") if name else ""
        if name and not key:
            raise StageError(f"{self._title} needs a key: the variable {name} of the environment is not set")
        return key

    def _shown(self, said: bytes) -> str:
        text = " ".join(said.decode(errors="replace").split())
        key = os.environ.get(self.config.api_key_env, "") if self.config.api_key_env else ""
        return (text.replace(key, "***") if key else text)[:300]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key goes to the address in the recipe, and nowhere else."""

    def redirect_request(self, *words: Any) -> None:
        return None


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_NoRedirect)
