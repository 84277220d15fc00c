"""Shapes of the library of models in `conf/model/`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import yaml

from largeforge.estimate.decoders import shape
from largeforge.recipe import sources
from largeforge.recipe.schema import Model

if TYPE_CHECKING:
    from largeforge.estimate.shape import Shape


@pytest.fixture(scope="session")
def library() -> Callable[[str], Shape]:
    """Give the shape of a model by the name of its choice."""

    def find(name: str) -> Shape:
        model = Model.model_validate(yaml.safe_load(sources.choices("model")[name].read_text()))
        assert model.architecture is not None
        return shape(model.architecture.config())

    return find
