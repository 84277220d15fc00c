"""The gateway file: what it must hold, and what is said when it does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from largeforge.errors import RecipeError
from largeforge.gateway import config
from largeforge.recipe.schema import Gateway

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def content():
    return {
        "gateway": {"port": 0},
        "router": {"name": "keyword"},
        "topology": {"experts": {"general": {"model": "x"}}, "fallback": "general"},
        "upstreams": {"general": {"url": "http://127.0.0.1:9001/", "served_model": "g", "model": "path:x"}},
    }


def read(tmp_path, content):
    path = tmp_path / "gateway.json"
    path.write_text(json.dumps(content))
    return config.read(path)


def test_reads(tmp_path, content):
    assert read(tmp_path, content).upstreams["general"][0].url == "http://127.0.0.1:9001"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["upstreams"].clear(), "no server for general"),
        (lambda c: c["upstreams"].update(other=c["upstreams"]["general"]), "other not in topology.experts"),
        (lambda c: c["topology"].update(fallback="none"), "'none' is none of: general"),
        (lambda c: c["upstreams"]["general"].update(url="ftp://x"), "upstreams.general.0.url"),
        (lambda c: c["upstreams"]["general"].update(url="http://u:p@x"), "upstreams.general.0.url"),
        (lambda c: c["upstreams"]["general"].update(extra=1), "upstreams.general.0.extra"),
        (lambda c: c.update(topolgy={}), "Did you mean 'topology'?"),
        (lambda c: c["router"].update(name="magic"), "router.name"),
        (
            lambda c: (
                c["topology"]["experts"]["general"].update(task="embed"),
                c["topology"]["experts"].update(other={"model": "x"}),
                c["upstreams"].update(other=c["upstreams"]["general"]),
            ),
            "topology.fallback: must be an expert that writes answers (task: generate): other",
        ),
        (
            lambda c: (
                c["topology"]["experts"].update(auto={"model": "x"}),
                c["upstreams"].update(auto=c["upstreams"]["general"]),
            ),
            "no expert can be called 'auto'",
        ),
    ],
)
def test_mistakes_are_named(tmp_path, content, change, message):
    change(content)
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, content)
    assert message in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(RecipeError, match="cannot be read"):
        config.read(tmp_path / "none.json")


def test_shipped_gateway_is_the_default():
    values = yaml.safe_load((CONF / "gateway" / "default.yaml").read_text())
    assert values == Gateway().model_dump(exclude={"slo"})  # which is filled in from the recipe's own
