"""Where a key was written: the file that won, and its line."""

from __future__ import annotations

import pytest

from largeforge.recipe.places import Places, Source


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text("# base\nname: sft\nsteps: 1\nrows: [a, {b: 1}]\n")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("\ufeffname: x\nmethod:\n  steps: 2\ngates:\n  vs_base.loss: '< 0'\n")

    def of(*overrides):
        found = (Source(tmp_path / "base.yaml", "method"), Source(recipe, ""))
        return Places(overrides, recipe, lambda: found)

    return of


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("method.steps", "recipe.yaml:3"),
        ("method.name", "base.yaml:2"),
        ("method.rows.1.b", "base.yaml:4"),
        ("method.rows.7", "base.yaml:4"),
        ("method.new", "recipe.yaml:2"),
        ("gates.vs_base.loss", "recipe.yaml:5"),
        ("other", "recipe.yaml"),
    ],
)
def test_in_files(places, key, place):
    assert places().of_key(key) == place


@pytest.mark.parametrize(
    ("override", "key", "place"),
    [
        ("method.steps=3", "method.steps", "command line"),
        ("++method.steps=3", "method.steps", "command line"),
        ("+new.key=3", "new", "command line"),
        ("new.key=3", "new.other", "command line"),
        ("method={steps:3}", "method.steps", "command line"),
        ("method={other:3}", "method.steps", "recipe.yaml:3"),
        ("method.stepsize=3", "method.steps", "recipe.yaml:3"),
        ("method.other=3", "method.name", "base.yaml:2"),
        ("model@jobs.a.model=x", "jobs.a.model", "command line"),
    ],
)
def test_on_the_command_line(places, override, key, place):
    assert places(override).of_key(key) == place


def test_without_a_recipe_it_is_the_command_line():
    assert Places(("name=x",)).of_key("seed") == "command line"


def test_clash(places, tmp_path):
    assert places().clash() == ("", "recipe.yaml")
    (tmp_path / "recipe.yaml").write_text("name: x\nmethod: [1]\n")
    assert places().clash() == ("method", "recipe.yaml:2")


def test_a_file_that_is_gone_has_no_lines(tmp_path):
    places = Places((), None, lambda: (Source(tmp_path / "gone.yaml", ""),))
    assert places.of_key("a") == "command line"
