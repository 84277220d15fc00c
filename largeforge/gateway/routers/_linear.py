"""A small text classifier: the mean of its features' vectors, and a linear layer on it.

The cost of an answer depends on the length of the text and hardly on the number of classes, since those meet a short
vector and not every feature (Joulin et al., arXiv:1607.01759). It learns by plain SGD with a falling rate, in numpy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from largeforge.gateway.routers._features import features

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    Array = np.ndarray[Any, Any]

FORMAT = 1
"""Of the file; a file of another format is refused."""
BATCH = 32


@dataclass(frozen=True)
class Learning:
    """How a classifier learns."""

    dimension: int
    bits: int
    epochs: int
    learning_rate: float
    seed: int


class LinearText:
    """A trained classifier."""

    def __init__(self, labels: Sequence[str], vectors: Array, weights: Array, known: Array):
        """Take a row of `vectors` for each feature, a column of `weights` for each label, and which features are
        `known` from the training."""
        self.labels = list(labels)
        self._vectors, self._weights, self._known = vectors, weights, known
        self._bits = (len(vectors) - 1).bit_length()

    def probabilities(self, text: str) -> tuple[Array, float] | None:
        """Return the probability of each label, and the share of the text's features that the training had seen.

        None for a text without any feature that was seen.
        """
        import numpy as np

        ids = features(text, bits=self._bits)
        known = float(self._known[ids].mean()) if len(ids) else 0.0
        if not known:
            return None
        logits = self._vectors[ids].mean(axis=0, dtype=np.float32) @ self._weights
        grown = np.exp(logits - logits.max())
        return grown / grown.sum(), known

    def save(self, path: Path) -> None:
        """Write the classifier to a file; numbers are rounded to 16 bits."""
        import numpy as np

        about = json.dumps({"format": FORMAT, "labels": self.labels})
        partial = path.with_name(f"{path.name}.partial")
        with partial.open("wb") as stream:
            np.savez(
                stream, about=np.array(about), vectors=self._vectors.astype(np.float16),
                weights=self._weights.astype(np.float32), known=np.packbits(self._known),
            )  # fmt: skip
        partial.replace(path)


def load(path: Path) -> LinearText:
    """Read a classifier; raises ValueError with what is wrong about the file, OSError where there is none."""
    import zipfile

    import numpy as np

    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            vectors, weights = stored["vectors"].astype(np.float32), stored["weights"]
            known = np.unpackbits(stored["known"])[: len(vectors)].astype(bool)
    except (ValueError, KeyError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError("is no classifier of routing, or it is damaged") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError("was written by another version of LargeForge: train it again")
    fits = vectors.ndim == 2 and weights.shape == (vectors.shape[1], len(about["labels"]))
    if not fits or len(known) != len(vectors) or len(vectors) & (len(vectors) - 1):
        raise ValueError("is no classifier of routing, or it is damaged")
    return LinearText(about["labels"], vectors, weights, known)


def train(
    texts: Sequence[str], labels: Sequence[str], how: Learning, *, progress: Callable[[int, int, float], None]
) -> LinearText:
    """Return a classifier of texts; `progress` is told of steps, all steps, and the loss."""
    import numpy as np

    names = sorted(set(labels))
    wanted = np.array([names.index(label) for label in labels])
    rows = [features(text, bits=how.bits) for text in texts]
    usable = np.array([place for place, ids in enumerate(rows) if len(ids)])
    random = np.random.default_rng(how.seed)
    vectors = (random.uniform(-1, 1, (1 << how.bits, how.dimension)) / how.dimension).astype(np.float32)
    weights = np.zeros((how.dimension, len(names)), np.float32)
    known = np.zeros(1 << how.bits, bool)
    for ids in rows:
        known[ids] = True
    steps, step = how.epochs * -(-len(usable) // BATCH), 0
    for _ in range(how.epochs):
        order = random.permutation(usable)
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            rate = how.learning_rate * (1 - step / steps)
            loss = _step([rows[place] for place in batch], wanted[batch], vectors, weights, rate)
            step += 1
            progress(step, steps, loss)
    return LinearText(names, vectors, weights, known)


def _step(rows: list[Any], wanted: Array, vectors: Array, weights: Array, rate: float) -> float:
    """Take one step of gradient descent on the cross-entropy of a batch, in place; return that."""
    import numpy as np

    lengths = np.array([len(ids) for ids in rows])
    flat = np.concatenate(rows)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    hidden = np.add.reduceat(vectors[flat], starts, axis=0) / lengths[:, None].astype(np.float32)
    logits = hidden @ weights
    grown = np.exp(logits - logits.max(axis=1, keepdims=True))
    given = grown / grown.sum(axis=1, keepdims=True)
    places = np.arange(len(rows))
    loss = float(-np.log(np.maximum(given[places, wanted], 1e-12)).mean())
    given[places, wanted] -= 1
    of_hidden = given @ weights.T
    weights -= rate * (hidden.T @ given)
    change = (-rate * of_hidden / lengths[:, None]).astype(np.float32)
    np.add.at(vectors, flat, np.repeat(change, lengths, axis=0))
    return loss
