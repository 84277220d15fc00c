"""Where recipes and choices are looked for, and what the list of recipes says of them."""

from __future__ import annotations

import pytest

from largeforge.recipe import folders, sources


def test_the_working_directory_comes_before_what_is_shipped(folder):
    assert sources.roots() == [folders.shipped_root()]
    (folder.path / "conf").mkdir()
    assert sources.roots() == [folder.path, folders.shipped_root()]


def test_in_the_checkout_there_is_one_root(monkeypatch):
    monkeypatch.chdir(folders.shipped_root())
    assert sources.roots() == [folders.shipped_root()]


def test_choices_are_files_and_not_data(folder):
    folder.write("name: a\n", name="mine")
    folder.write("name: a\n", name="team/ours")
    folder.write("rows: 1\n", name="data/rows")
    (folder.path / "recipes" / "folder.yaml").mkdir()
    (folder.path / "recipes" / "notes.txt").touch()
    own = {name for name, path in sources.choices("recipe").items() if path.is_relative_to(folder.path)}
    assert own == {"mine", "team/ours"}
    assert "quickstart" in sources.choices("recipe")


def test_groups_are_folders_but_hydra_is_none(folder):
    folder.write("name: a\n", name="a", folder="conf/mine")
    folder.write("a: 1\n", name="a", folder="conf/hydra/launcher")
    assert {"mine", "method", "recipe", "hosts"} <= set(sources.groups())
    assert not any("hydra" in group for group in sources.groups())


@pytest.mark.parametrize("typed", ["my", "my.yaml", "recipes/my.yaml", "./recipes/my.yaml", "recipes/my"])
def test_recipe_name(typed):
    assert sources.recipe_name(typed) == "my"


def test_recipe_folder(folder):
    own = folder.write("name: a\n", name="team/mine")
    shipped = folders.shipped_root() / "recipes"
    assert sources.recipe_folder(own) == folder.path / "recipes"
    assert sources.recipe_folder(shipped / "quickstart.yaml") == shipped
    assert sources.recipe_folder(None) == shipped


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"# @package _global_\n# Trains a model.\n# More.\nname: a\n", "Trains a model."),
        (b"\xef\xbb\xbf# First.\n", "First."),
        (b"name: a\n", ""),
        (b"", ""),
        (b"# caf\xe9\n", "caf\ufffd"),
    ],
)
def test_description(tmp_path, content, text):
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    assert sources.description(path) == text


def test_a_file_that_is_gone_has_no_description(tmp_path):
    assert sources.description(tmp_path / "gone.yaml") == ""
