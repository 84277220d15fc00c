"""The shapes of a recipe's models, each looked up once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from largeforge.artifacts import canonical_json
from largeforge.estimate.decoders import shape
from largeforge.recipe.model_config import config_of

if TYPE_CHECKING:
    from largeforge.estimate.shape import Shape
    from largeforge.recipe.schema import Model, Recipe


@dataclass(frozen=True)
class KnownModel:
    """A model's shape, or why it is not known."""

    shape: Shape | None
    weights: str = "bf16"
    """Format that the weights are stored in."""
    note: str = ""
    """Why there is no shape, or what about it was guessed; empty when there is nothing to say."""


class Models:
    """Looks up the models of one recipe; `online` allows to ask the hub."""

    def __init__(self, recipe: Recipe, *, online: bool = True):
        self._recipe, self._online = recipe, online
        self._found: dict[str, KnownModel] = {}

    def of(self, model: Model | str) -> KnownModel:
        """Return what is known of a model, given as a section of the recipe or as a reference."""
        key = model if isinstance(model, str) else canonical_json(model.model_dump(mode="json"))
        if key not in self._found:
            self._found[key] = self._look_up(model)
        return self._found[key]

    def _look_up(self, model: Model | str) -> KnownModel:
        title = model if isinstance(model, str) else model.ref
        found = config_of(model, self._recipe, online=self._online)
        if found.fields is None:
            return KnownModel(None, note=f"memory and time of {title} are not known: {found.problem}")
        try:
            known = shape(found.fields)
        except ValueError as error:
            return KnownModel(None, note=f"memory and time of {title} are not known: {error}")
        note = f"{title}: {known.guessed}" if known.guessed else ""
        return KnownModel(known, found.weights, note)
