"""Exports of recipes as tests read them: rendered, and taken apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

from largeforge.exporting.run import rendered
from largeforge.planning import make_plan
from largeforge.recipe.compose import compose
from largeforge.recipe.validate import validate

if TYPE_CHECKING:
    from largeforge.exporting.rendered import Rendered

Object = dict[str, Any]

WORKLOADS = ("StatefulSet", "Deployment")


@cache
def export(*words: str) -> Rendered:
    """Render what a command line exports; nothing is written."""
    composition = compose(words)
    return rendered(make_plan(validate(composition), recipe_folder=composition.recipe_folder))


def objects(found: Rendered) -> list[Object]:
    """Return the objects that a kustomization applies."""
    kustomization = yaml.safe_load(found.files["kustomization.yaml"])
    return [one for name in kustomization["resources"] for one in yaml.safe_load_all(found.files[name])]


def of_kind(found: list[Object], *kinds: str) -> list[Object]:
    return [one for one in found if one["kind"] in kinds]


def named(found: list[Object], kind: str, name: str) -> Object:
    return next(one for one in found if one["kind"] == kind and one["metadata"]["name"] == name)


def pod(workload: Object) -> Object:
    spec: Object = workload["spec"]["template"]["spec"]
    return spec


def containers(workload: Object) -> list[Object]:
    spec = pod(workload)
    return [*spec.get("initContainers", []), *spec["containers"]]


def gateway_file(found: list[Object]) -> Object:
    parsed: Object = json.loads(named(found, "ConfigMap", "gateway")["data"]["gateway.json"])
    return parsed


def compose_file(found: Rendered) -> Object:
    parsed: Object = yaml.safe_load(found.files["compose.yaml"])
    return parsed


def option(words: list[str], name: str) -> str:
    """Return the value of an option of a command line."""
    return words[words.index(name) + 1]


def texts(value: Any) -> Iterator[str]:
    """Yield all texts in nested data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
