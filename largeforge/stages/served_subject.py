"""A model under evaluation that a vLLM server of this machine answers for, and answers that are written down."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

from largeforge.errors import StageError
from largeforge.serving import server
from largeforge.stages.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from largeforge.recipe.evaluation import Endpoint
    from largeforge.stages.context import Context
    from largeforge.training.other_models import OtherModels

IN_FLIGHT = 128
"""Prompts that a server has at once: it batches them by itself."""
ANSWER_TIMEOUT_S = 1800.0
END_TIMEOUT_S = 10.0


class ServedSubject(Subject):
    """A model behind the `/v1/completions` of a server on this machine; `watch` raises when the server has died."""

    def __init__(
        self,
        endpoint: Endpoint,
        port: int,
        watch: Callable[[], None],
        tokenizer: Any,
        rows: list[dict[str, Any]],
        context: Context,
        *,
        others: OtherModels | None = None,
    ):
        super().__init__(tokenizer, rows, context, others=others)
        self._endpoint, self._name, self.port, self._watch = endpoint, endpoint.model, port, watch

    @property
    def endpoint(self) -> Endpoint:
        """The server that answers for the model."""
        self._watch()
        return self._endpoint

    def _answers(self, places: Sequence[int], max_new_tokens: int, batch_size: int) -> list[str]:
        """Ask the server for all answers at once.

        Prompts are sent as token ids, so that the server reads what a model in this process would.
        Raises StageError for a prompt that the server refuses, ServingError when it has died.
        """
        prompts = {place: self.prompt(place) for place in places}
        found: dict[int, str] = {}
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            asked = {pool.submit(self._answer, ids, max_new_tokens): place for place, ids in prompts.items()}
            try:
                for done in as_completed(asked):
                    found[asked[done]] = done.result()
                    if len(found) % batch_size == 0 or len(found) == len(prompts):
                        self.progress(len(found), len(prompts))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [found[place] for place in places]

    def _answer(self, ids: list[int], max_new_tokens: int) -> str:
        request = {"model": self._name, "prompt": ids, "max_tokens": max_new_tokens, "temperature": 0.0}
        answer = server.post(self.port, "/v1/completions", request, timeout_s=ANSWER_TIMEOUT_S)
        if answer is None:
            self._watch()
            raise StageError(f"{self._name}: the server did not answer within {ANSWER_TIMEOUT_S:.0f} s")
        status, body = answer
        if status >= 500:
            self._await_end()
        if status != 200:
            raise StageError(f"{self._name}: the server refused a prompt of {len(ids)} tokens: {_reason(body)}")
        return str(json.loads(body)["choices"][0]["text"])

    def _await_end(self) -> None:
        """Give a server that failed the time to end, which then says why."""
        deadline = time.monotonic() + END_TIMEOUT_S
        while time.monotonic() < deadline:
            self._watch()
            time.sleep(0.1)


class WrittenSubject(Subject):
    """Answers that another evaluation, or anything else, has written down."""

    def __init__(
        self, written: Mapping[str, str], title: str, tokenizer: Any, rows: list[dict[str, Any]], context: Context
    ):
        super().__init__(tokenizer, rows, context)
        self._written, self._title = written, title

    @property
    def has_answers(self) -> bool:
        """Whether any of the rows has an answer."""
        return any(self.key(place) in self._written for place in range(len(self.rows)))

    def _answers(self, places: Sequence[int], max_new_tokens: int, batch_size: int) -> list[str]:
        """Look the answers up.

        Raises StageError that counts the prompts without one.
        """
        missing = [place for place in places if self.key(place) not in self._written]
        if missing:
            row = self.rows[missing[0]]
            where = f"the first at {row['source']}" if row.get("source") else f"the first in row {missing[0] + 1}"
            raise StageError(f"{self._title} has no answer to {len(missing)} of {len(places)} prompts, {where}")
        return [self._written[self.key(place)] for place in places]


def _reason(body: bytes) -> str:
    try:
        found = json.loads(body)
        return str(found.get("error", found).get("message", found))[:300]
    except (ValueError, AttributeError):
        return body.decode("utf-8", "replace")[:300]
