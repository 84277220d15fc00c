"""Choose the expert with a small classifier of text that was trained on routed requests.

It answers in this process, in some tens of microseconds, whatever the number of experts (`_linear.py`, and
docs/decisions/0023 on why it is no language model). Its score is the probability of its choice times the share of the
text that is like what it was trained on, so that a threshold of a chain also refuses what is unlike all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from largeforge.errors import Problem, RecipeError, listed
from largeforge.gateway.routers import _linear
from largeforge.gateway.routing import Decision, Router
from largeforge.recipe.base import Extension

if TYPE_CHECKING:
    from collections.abc import Callable

    from largeforge.gateway.request import Request
    from largeforge.gateway.routing import Services
    from largeforge.recipe.schema import Topology

FILE = "classifier.npz"
"""What it learns, in the folder that it is given."""


class Config(Extension):
    """Route by a small classifier that is trained on `routing.path`."""

    name: Literal["classifier"] = "classifier"
    path: str = ""
    """File with what it learnt in an earlier run (`stage route`: classifier.npz); empty trains it."""
    min_score: float = Field(default=0.5, ge=0, le=1)
    """Least score with which it has an opinion."""
    epochs: int = Field(default=5, gt=0)
    """How often it sees each request."""
    learning_rate: float = Field(default=0.5, gt=0)
    """Rate of its first step; it falls to 0 by the last."""
    dimension: int = Field(default=32, gt=0, le=512)
    """Length of the vectors of features."""
    bits: int = Field(default=17, ge=8, le=22)
    """Features are told apart by this many bits of a hash; each bit more doubles the size of the file."""


class ClassifierRouter(Router):
    """A trained classifier beside the experts of a topology."""

    def __init__(self, model: _linear.LinearText, experts: Sequence[str], min_score: float):
        self._model = model
        self._experts = set(experts)
        self._min_score = min_score

    def choose(self, request: Request) -> Decision | None:
        """Return the most likely expert; no opinion where that is not likely enough."""
        found = self._model.probabilities(request.text)
        if found is None:
            return None
        likely, known = found
        best = int(likely.argmax())
        expert, score = self._model.labels[best], float(likely[best]) * known
        if score < self._min_score or expert not in self._experts:
            return None
        return Decision(expert, f"classifier:{score:.2f}", score)

    def scores(self, request: Request) -> dict[str, float]:
        """Return each expert's probability times the share of the text that is like the training."""
        found = self._model.probabilities(request.text)
        if found is None:
            return {}
        likely, known = found
        return {name: float(share) * known for name, share in zip(self._model.labels, likely, strict=True)}


def build(config: Config, topology: Topology, services: Services) -> ClassifierRouter:
    """Return the router for a topology; raises RecipeError where what it learnt cannot be read or fits no expert."""
    try:
        model = _linear.load(Path(config.path))
    except OSError as error:
        rule = f"cannot be read: {error.strerror or error}." if config.path else "nothing is learnt yet."
        raise RecipeError([Problem("router.path", rule, given=repr(config.path))]) from error
    except ValueError as error:
        raise RecipeError([Problem("router.path", f"{error}.", given=repr(config.path))]) from error
    if not set(model.labels) & topology.experts.keys():
        rule = f"knows the experts {listed(model.labels)}, and the topology has {listed(topology.experts)}."
        raise RecipeError([Problem("router.path", rule, given=repr(config.path))])
    return ClassifierRouter(model, list(topology.experts), config.min_score)


def train(
    config: Config,
    examples: Sequence[tuple[Request, str]],
    folder: Path,
    *,
    seed: int,
    progress: Callable[[int, int, float], None],
) -> None:
    """Learn from requests with their experts, and write that to a folder."""
    how = _linear.Learning(config.dimension, config.bits, config.epochs, config.learning_rate, seed)
    texts, experts = [request.text for request, _ in examples], [expert for _, expert in examples]
    _linear.train(texts, experts, how, progress=progress).save(folder / FILE)
