"""An environment is known by its content: what decides that changes its key, and nothing else does."""

from __future__ import annotations

import dataclasses
import json

from largeforge.hostenv.pins import Pin
from largeforge.hostenv.spec import HostEnvironment, Index, Wheel

OWN = Wheel("largeforge", "0.1.0", "largeforge-0.1.0-py3-none-any.whl", "ab" * 32, 10)
ONE, TWO = Pin("rich", "15.0.0", "rich==15.0.0"), Pin("torch", "2.13.0", "torch===2.13.0")
BASE = HostEnvironment("serve", "cuda", (ONE, TWO), OWN)


def test_what_decides_the_content_decides_the_key() -> None:
    changed = [
        {"pins": (ONE,)},
        {"pins": (ONE, dataclasses.replace(TWO, version="2.13.1"))},
        {"pins": (dataclasses.replace(ONE, marker='python_version < "3.12"'), TWO)},
        {"wheel": dataclasses.replace(OWN, sha256="cd" * 32)},
        {"python": "3.12"},
    ]
    keys = [BASE.key, *(dataclasses.replace(BASE, **fields).key for fields in changed)]
    assert len(set(keys)) == len(keys)


def test_where_it_comes_from_and_what_it_is_for_do_not() -> None:
    elsewhere = Index("https://user:pass@example.org/simple", ("https://example.org/more",), "http://proxy:3128")
    for fields in ({"role": "train"}, {"index": elsewhere}, {"pins": (TWO, ONE)}):
        assert dataclasses.replace(BASE, **fields).key == BASE.key


def test_an_order_from_an_index_brings_only_largeforge_itself() -> None:
    order = BASE.order(wheels_folder="/tmp/w")
    assert order["wheels"] == [{"name": "largeforge", "path": f"/tmp/w/{OWN.file}", "sha256": OWN.sha256}]
    assert order["offline"] is False
    assert order["pins"] == ["rich==15.0.0", "torch===2.13.0", "largeforge==0.1.0"]
    assert BASE.interpreter() == f"/opt/largeforge/environments/{BASE.key}/bin/python"


def test_passwords_of_an_index_are_in_the_order_and_not_in_what_is_shown() -> None:
    index = Index("https://user:hunter2@example.org/simple", ("https://t:hunter2@example.org/x",), "http://a:hunter2@p")
    environment = dataclasses.replace(BASE, index=index)
    assert "hunter2" not in repr(environment)
    assert json.dumps(environment.order(wheels_folder="/w")).count("hunter2") == 3
