"""The shapes of embeddings, rerank and score, as vLLM has them; for the OpenAPI document only, like `wire.py`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from largeforge.gateway.wire import Open, Usage

T = TypeVar("T")
Several = Annotated[list[T], Field(min_length=1)]
Text = str | dict[str, Any]
"""A text, or a message whose content may hold images."""


class _Pooling(Open):
    model: str = Field(default="auto", examples=["auto"])
    """An expert's name; `auto` where only one can do it."""
    truncate_prompt_tokens: int | None = Field(default=None, ge=-1)
    """Cut longer texts to so many tokens; -1 for as many as the model reads."""


class EmbeddingRequest(_Pooling):
    """Body of `/v1/embeddings`."""

    input: str | Several[str] = Field(examples=[["Where is my order?", "Where is my parcel?"]])
    """One text or several; vLLM takes tokens, too."""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1)
    """Length of the vectors, for models that were trained for several."""


class Embedding(Open):
    """The vector of one text."""

    object: Literal["embedding"] = "embedding"
    index: int
    """Which text, counted from 0."""
    embedding: list[float] | str
    """Numbers, or base64 of float32."""


class EmbeddingList(Open):
    """The vectors of all texts."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class RerankRequest(_Pooling):
    """Body of `/v1/rerank`, as clients of Jina and Cohere send it."""

    query: Text = Field(examples=["red car"])
    documents: Several[Text] = Field(examples=[["a blue boat", "the red car"]])
    top_n: int = Field(default=0, ge=0)
    """How many of the best to return; 0 for all."""


class RerankResult(Open):
    """One document."""

    index: int
    """Which document, counted from 0."""
    relevance_score: float
    document: dict[str, Any] | None = None


class Ranking(Open):
    """The documents, the best first."""

    id: str
    model: str
    results: list[RerankResult]
    usage: dict[str, Any] | None = None


class ScoreRequest(_Pooling):
    """Body of `/v1/score`; vLLM's other names of the two (`queries` and `documents`, ...) are understood as well."""

    text_1: Text | Several[Text] = Field(examples=["red car"])
    text_2: Text | Several[Text] = Field(examples=[["a blue boat", "the red car"]])
    """As many as there are in `text_1`, or any number where that is one."""


class Score(Open):
    """How well one pair fits."""

    object: Literal["score"] = "score"
    index: int
    score: float


class ScoreList(Open):
    """The scores of all pairs."""

    object: Literal["list"]
    data: list[Score]
    model: str
    usage: Usage | None = None
