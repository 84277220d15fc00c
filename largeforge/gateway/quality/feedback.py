"""`POST /v1/feedback`: a rating of an answer, counted for the expert and the model that gave it.

The worker that answered a request remembers for a while who did, and asks nobody; any other asks it. After a restart
nobody remembers: then the client's own word counts, as the headers of the answer told it, if it names an expert with a
model that is served or was until lately. Nothing proves who rates, so that ratings are as honest as the clients.

A request is rated once: what comes later is logged and not counted again. A comment is neither kept nor logged.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import orjson

from largeforge.gateway.endpoint import Endpoint, answer
from largeforge.gateway.errors import ApiError, bad_request
from largeforge.gateway.quality.recent import Recent
from largeforge.gateway.request import read_body
from largeforge.gateway.request_checks import json_type

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from largeforge.gateway.arms import Arms
    from largeforge.gateway.crew.whole import Whole
    from largeforge.gateway.metrics import Metrics

PATH = "/v1/feedback"
QUESTION = "rate"
"""What workers ask each other."""
MOST_ANSWERED = 65_536
"""Requests of a worker that can still be rated without the client's help; half as many when it has just forgotten."""
MOST_BODY_BYTES = 65_536
MOST_COMMENT_CHARS = 10_000
MOST_NAME_CHARS = 500
GOOD_SCORE = 0.5
"""Scores from here on are good."""
ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
"""Ids of requests, as answers carry them."""


@dataclass(frozen=True)
class Rating:
    """What a client thinks of an answer."""

    request_id: str
    good: bool
    expert: str = ""
    """Who answered, as the client has it from the headers of the answer; empty where it does not say."""
    model: str = ""


@dataclass(frozen=True)
class Rated:
    """What became of a rating."""

    expert: str
    model: str
    counted: bool
    """Whether it was the first of its request."""


class Ratings:
    """The ratings of what this worker answered."""

    def __init__(self, metrics: Metrics, arms: Arms):
        self.answered: Recent[tuple[str, str, str]] = Recent(MOST_ANSWERED)
        """Expert, model and side by the id of the request; the side is empty where it counts for none."""
        self._rated: Recent[bool] = Recent(MOST_ANSWERED)
        self._metrics, self._arms = metrics, arms

    def rate(self, rating: Rating) -> Rated | None:
        """Count a rating; None where this worker knows nothing of the request."""
        found = self.answered.get(rating.request_id)
        if found is None or not self._metrics.has(*(of := found[:2])):
            return None
        is_first = self._rated.get(rating.request_id) is None
        self._rated.put(rating.request_id, True)
        if is_first:
            self._metrics.judged(*of, "thumbs", good=rating.good)
            if side := found[2]:
                self._arms.judge(of[0], side, "thumbs", is_good=rating.good)
        return Rated(*of, counted=is_first)

    def believe(self, rating: Rating) -> Rated | None:
        """Count a rating on the client's word of who answered; None where that cannot be."""
        for model in (rating.model, unquote(rating.model)):  # headers percent-encode what is not plain
            if self._metrics.has(rating.expert, model):
                self.answered.put(rating.request_id, (rating.expert, model, ""))
                return self.rate(rating)
        return None

    async def for_others(self, given: bytes) -> bytes:
        """Answer another worker: what became of a rating, empty where this one knows nothing of the request."""
        rated = self.rate(Rating(**orjson.loads(given)))
        return orjson.dumps(asdict(rated)) if rated else b""


class Feedback:
    """The endpoint."""

    def __init__(self, ratings: Ratings, whole: Whole, write: Callable[[str, Mapping[str, Any]], None]):
        """`write` takes a line of the log."""
        self._ratings, self._whole, self._write = ratings, whole, write

    def endpoint(self) -> Endpoint:
        """Return what answers at `PATH`."""
        return Endpoint(POST=self._post)

    async def _post(self, request: Request) -> Response:
        rating, rated_as = _parse(await read_body(request.scope, request.receive, MOST_BODY_BYTES))
        rated = await self._rate(rating)
        if rated is None:
            message = (
                f"Nothing is known of a request '{rating.request_id}'. Where the answer is old, or the gateway was "
                "started anew since, send 'expert' and 'model' as the answer's headers x-largeforge-… have them."
            )
            raise ApiError(404, message, param="request_id", code="request_not_found")
        said = {"request_id": rating.request_id, **rated_as, **asdict(rated)}
        self._write("feedback", said)
        return answer({"object": "feedback", **said})

    async def _rate(self, rating: Rating) -> Rated | None:
        if rated := self._ratings.rate(rating):
            return rated
        for said in (await self._whole.ask(QUESTION, orjson.dumps(asdict(rating)))).values():
            if said:
                return Rated(**orjson.loads(said))
        return self._ratings.believe(rating)


def _parse(body: bytes) -> tuple[Rating, dict[str, Any]]:
    """Return a rating, and the field that says whether it is good; raises ApiError (400) that names what is wrong."""
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        bad_request(f"The body is not valid JSON: {error.msg}.", code="invalid_json")
    if not isinstance(given, dict):
        bad_request(f"The body must be a JSON object, not {json_type(given)}.", code="invalid_json")
    request_id = given.get("request_id")
    if request_id is None:
        bad_request("'request_id' is missing.", "request_id", "missing_required_parameter")
    if not isinstance(request_id, str) or not ID.fullmatch(request_id):
        bad_request("'request_id' must be an answer's x-request-id.", "request_id")
    good, rated_as = _good(given)
    _text(given, "comment", MOST_COMMENT_CHARS)
    expert, model = _text(given, "expert", MOST_NAME_CHARS), _text(given, "model", MOST_NAME_CHARS)
    return Rating(request_id, good, expert, model), rated_as


def _good(given: Mapping[str, Any]) -> tuple[bool, dict[str, Any]]:
    rating, score = given.get("rating"), given.get("score")
    if (rating is None) == (score is None):
        bad_request("Send either 'rating' or 'score'.", "rating", "missing_required_parameter")
    if rating is not None:
        if rating not in ("up", "down"):
            bad_request("'rating' must be 'up' or 'down'.", "rating")
        return rating == "up", {"rating": rating}
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        bad_request("'score' must be a number from 0 to 1.", "score")
    return score >= GOOD_SCORE, {"score": score}


def _text(given: Mapping[str, Any], name: str, most: int) -> str:
    value = given.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > most:
        bad_request(f"'{name}' must be a text of at most {most} characters.", name)
    return value
