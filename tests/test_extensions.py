"""Adding an extension is one module and one YAML: neither is without the other, and both say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from largeforge.estimate.decoders import shape
from largeforge.estimate.load import TrainingLoad
from largeforge.estimate.training import training_memory
from largeforge.recipe import extensions
from largeforge.recipe.base import Extension
from largeforge.recipe.folders import shipped_root
from largeforge.recipe.launching import Place
from largeforge.recipe.sections.hosts import Host

CONF = shipped_root() / "conf"

QWEN = shape({
    "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
})  # fmt: skip

PLACE = Place("cuda", 4, {"a": Host(address="10.0.0.1"), "b": Host(address="10.0.0.2")})

KEYED = {"evaluation", "reward", "tracking"}
"""Groups whose YAML holds its content below the name of the choice, so that a recipe can take several."""

MODULES = [(kind, name) for kind in extensions.KINDS for name in extensions.names(kind)]
FILES = [
    (kind, path)
    for kind in extensions.KINDS
    for path in sorted((CONF / kind).glob("*.yaml"))
    if not (kind == "tracking" and path.stem == "none")
]


def test_there_are_extensions_of_every_kind() -> None:
    assert {kind for kind, _ in MODULES} == {kind for kind, _ in FILES} == set(extensions.KINDS)


@pytest.mark.parametrize(("kind", "name"), MODULES)
def test_module_has_its_yaml(kind: str, name: str) -> None:
    named = {_values(kind, path).get("name") for _, path in FILES if _ == kind}
    assert name in named, f"conf/{kind}/ has no YAML with `name: {name}`"


@pytest.mark.parametrize(("kind", "name"), MODULES)
def test_module_has_a_config_with_its_own_name(kind: str, name: str) -> None:
    config = extensions.load(kind, name).Config
    assert issubclass(config, Extension)
    assert config().name == name
    with pytest.raises(ValueError, match="name"):
        config(name="another")


FORECASTS = [(kind, name) for kind, name in MODULES if kind in ("method", "adapter", "launcher")]


@pytest.mark.parametrize(("kind", "name"), FORECASTS)
def test_module_says_what_it_costs_in_memory(kind: str, name: str) -> None:
    module = extensions.load(kind, name)
    load = {
        "method": lambda: TrainingLoad(QWEN, method=module.footprint(module.Config())),
        "adapter": lambda: TrainingLoad(QWEN, adapter=module.footprint(module.Config())),
        "launcher": lambda: TrainingLoad(QWEN, sharding=module.sharding(module.Config(), PLACE)),
    }[kind]()
    assert training_memory(load).total > QWEN.parameters


@pytest.mark.parametrize(("kind", "path"), FILES, ids=lambda value: getattr(value, "stem", value))
def test_yaml_has_its_module(kind: str, path: Path) -> None:
    name = _values(kind, path).get("name")
    assert name in extensions.names(kind), f"{path}: no module {extensions.KINDS[kind]}.{name}"


@pytest.mark.parametrize(("kind", "path"), FILES, ids=lambda value: getattr(value, "stem", value))
def test_yaml_says_what_the_module_says(kind: str, path: Path) -> None:
    values = _values(kind, path)
    config = extensions.load(kind, values["name"]).Config
    defaults = config().model_dump(mode="json")
    assert set(values) <= set(defaults), "keys that the module does not know"
    if values["name"] != path.stem:  # a variant: a choice of other values for the same module
        config(**values)
        return
    assert config(**values).model_dump(mode="json") == defaults
    assert set(values) == set(defaults), "keys that only the module has"


def _values(kind: str, path: Path) -> dict[str, Any]:
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    return dict(next(iter(values.values()))) if kind in KEYED else dict(values)
