"""What is replaced in Hydra and OmegaConf gives the same values, and stays linear in the size of a recipe."""

from __future__ import annotations

from collections import Counter

import pytest

from largeforge.recipe import sources
from largeforge.recipe.compose import compose
from largeforge.recipe.hydra_speed import parsed
from scripts.benchmarks import _fleet as fleet


@pytest.fixture
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _as_hydra_does(monkeypatch, overrides):
    """Compose with the usual merge in place of ours."""
    from omegaconf.basecontainer import BaseContainer

    from largeforge.recipe import hydra_speed

    with monkeypatch.context() as patch:
        patch.setattr(hydra_speed, "_merged", BaseContainer._merge_with)
        return compose(overrides).values


@pytest.mark.parametrize("name", sorted(sources.choices("recipe")))
def test_a_shipped_recipe_composes_to_what_hydra_makes_of_it(name, monkeypatch):
    overrides = [f"+recipe={name}", "hardware=cpu"]
    assert compose(overrides).values == _as_hydra_does(monkeypatch, overrides)


def test_sections_that_are_emptied_replaced_and_filled_again_compose_to_what_hydra_makes_of_them(
    working_directory, monkeypatch
):
    folder = working_directory / "recipes"
    folder.mkdir()
    (folder / "first.yaml").write_text("a: {b: {c: 1}, l: [{x: 1}, 2]}\nd: {e: 1}\nf: {g: 1}\nh: 1\n")
    (folder / "second.yaml").write_text("a: {b: {d: 2}, l: [{y: 2}]}\nd: null\nf: null\nh: {i: 1}\n")
    text = (
        "defaults: [first, second, _self_]\nname: third\nd: {k: '${name}'}\na: {b: {c: 3}}\nh: {i: 2, j: '${a.b.c}'}\n"
    )
    (folder / "third.yaml").write_text(text)
    values = compose(["+recipe=third", "++d.more=1"]).values
    assert values == _as_hydra_does(monkeypatch, ["+recipe=third", "++d.more=1"])
    assert values["d"] == {"k": "third", "more": 1}
    assert values["a"] == {"b": {"c": 3, "d": 2}, "l": [{"y": 2}]}
    assert values["f"] is None


def test_plain_words_mean_what_omegaconf_takes_them_for():
    from omegaconf import OmegaConf

    words = ["1e-4", "1_000", "yes", "2026-01-01", "'x'", ".5", "0o7", "~", "12:30", "[on, 1.5e3]", "&k {l: 1}", "*k"]
    text = "".join(f"key{index}: {word}\n" for index, word in enumerate(words))
    assert parsed(text) == OmegaConf.create(text)
    assert parsed("# only a comment\n") == {}


def test_the_work_of_composing_grows_with_the_recipe_and_not_with_its_square(working_directory, monkeypatch):
    from omegaconf.base import Node

    calls: Counter[int] = Counter()
    usual = Node._set_parent

    def counted(self, parent):
        calls[experts] += 1
        usual(self, parent)

    monkeypatch.setattr(Node, "_set_parent", counted)
    for experts in (10, 20, 40):
        fleet.write(working_directory, experts=experts, hosts=2 * experts)
        compose(["+recipe=fleet"])
    first, second = calls[20] - calls[10], calls[40] - calls[20]
    assert first > 0
    assert second < 2.2 * first, calls


def test_a_key_that_is_given_twice_is_still_refused():
    import yaml

    with pytest.raises(yaml.YAMLError, match="duplicate key a"):
        parsed("a: 1\nb: {c: 1}\na: 2\n")
