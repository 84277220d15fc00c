"""What is read from trl's source is what trl's classes are, for every method."""

from __future__ import annotations

import dataclasses
import importlib
import os
import subprocess
import sys
from typing import Any

import pytest

from largeforge.recipe import extensions, method_extra, trl_fields


def config_classes() -> list[str]:
    found: set[str] = set()
    for name in extensions.names("method"):
        config = extensions.load("method", name).TRL_CONFIG
        found |= {config} if isinstance(config, str) else set(config.values())
    return sorted(found)


CLASSES = config_classes()


@pytest.fixture(scope="module")
def real() -> dict[str, dict[str, Any]]:
    """The fields of the real dataclasses."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    found = {}
    for config in CLASSES:
        module, _, name = config.partition(":")
        fields = dataclasses.fields(getattr(importlib.import_module(module), name))
        found[config] = {field.name: field for field in fields if field.init}
    return found


@pytest.mark.parametrize("config", CLASSES)
def test_names_types_and_choices_are_those_of_the_dataclass(config: str, real: dict[str, dict[str, Any]]) -> None:
    read = trl_fields.fields(config)
    assert read is not None
    assert set(read) == set(real[config])
    for name, field in real[config].items():
        written_out = read[name].choices  # those that are computed are checked where trl is imported
        assert not written_out or list(written_out) == list(field.metadata["choices"]), name
        if field.default is not dataclasses.MISSING and not hasattr(field.default, "value"):
            assert read[name].accepts(field.default) or field.default is None, name


def test_nothing_is_imported_for_it() -> None:
    program = (
        "import sys; from largeforge.recipe import trl_fields\n"
        f"assert all(trl_fields.fields(config) for config in {CLASSES!r})\n"
        "print([name for name in ('trl', 'transformers', 'torch') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "[]", result.stderr


def test_what_largeforge_owns_exists_in_trl() -> None:
    known = {name for config in CLASSES for name in trl_fields.fields(config) or {}}
    assert set(method_extra.OWNED) <= known


def test_a_package_that_is_not_there_has_no_fields() -> None:
    assert trl_fields.fields("no_such_package.configs:Config") is None


def test_a_class_that_is_not_there_is_a_mistake_of_the_method() -> None:
    with pytest.raises(LookupError, match="no class Missing"):
        trl_fields.fields("trl.trainer.dpo_config:Missing")
    with pytest.raises(LookupError, match="no module"):
        trl_fields.fields("trl.trainer.missing:DPOConfig")


@pytest.mark.parametrize(
    ("annotation", "accepted", "refused"),
    [
        ("int", [0, -3], [True, 1.5, "1", None, []]),
        ("float", [1, 0.5], [True, "1e-5"]),
        ("bool", [True, False], [1, "true"]),
        ("str", ["a"], [1, True, None]),
        ("float | None", [0.1, None], ["a"]),
        ("Optional[int]", [1, None], ["a"]),
        ("Union[int, str]", [1, "a"], [1.5]),
        ("list[float] | None", [[0.8, 1], None], [0.8, ["a"], {}]),
        ("dict[str, Any] | str | None", [{"a": [1]}, "{}", None], [1, []]),
        ("dict[str, bool]", [{"a": True}], [{"a": 1}]),
        ("Literal['a', 1, False]", ["a", 1, False], ["b", True, 0]),
        ("OptimizerNames | str", ["adamw_torch"], [1]),
        ("'int | None'", [1, None], ["a"]),
    ],
)
def test_plain_values_are_told_apart_by_type(annotation: str, accepted: list[Any], refused: list[Any]) -> None:
    field = trl_fields.TrlField("any", annotation)
    assert [field.accepts(value) for value in accepted] == [True] * len(accepted)
    assert [field.accepts(value) for value in refused] == [False] * len(refused)
