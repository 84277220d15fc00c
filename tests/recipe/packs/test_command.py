"""`python -m largeforge packs`: what it writes, what it refuses, and what it leaves alone."""

from __future__ import annotations

import json

import pytest

from largeforge.recipe.packs import manifest, project
from tests.recipe.packs.conftest import PACK, RECIPE

COMMENTED = """\
# Our packs.
packs:
  # for the shop
  - git: https://example.com/a   # theirs
    rev: v1
    as: first

  - {git: https://example.com/b, rev: v1, as: second}
# the end
"""


def test_the_states_of_packs_are_listed(using, monkeypatch, tmp_path):
    assert "No packs" not in using.ok("packs")
    assert "ready: 1 recipe, 1 dataset, 1 method" in using.ok("packs", "list")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    assert "is not fetched" in using.ok("packs")
    text = (using.path / "largeforge.yaml").read_text()
    using.write("largeforge.yaml", text.replace("rev: v1", "rev: main"))
    assert "pinned at another address or revision than largeforge.yaml:3 asks for" in using.ok("packs")
    assert "packs update acme" in using.refused("packs", "fetch")
    assert "packs update acme" in using.refused("+recipe=acme/support_bot", "mode=plan")
    assert "stays at" in using.ok("packs", "update")
    assert "ready" in using.ok("packs")


def test_without_packs_the_list_says_how_to_get_one(work):
    assert "packs add URL --rev REV --as NAME" in work.ok("packs")
    assert work.ok("packs", "fetch") == ""


def test_add_and_remove_leave_the_rest_of_the_file_alone(using, published):
    using.write("largeforge.yaml", COMMENTED)
    using.write("packs.lock", json.dumps({"version": 1, "packs": {}}))
    using.ok("packs", "add", str(published.path), "--rev", "v1", "--as", "third")
    lines = COMMENTED.splitlines(keepends=True)
    added = f"  - {{git: {published.path}, rev: v1, as: third}}\n"
    text = (using.path / "largeforge.yaml").read_text()
    assert text.replace(f"'{published.path}'", str(published.path)) == "".join([*lines[:8], added, *lines[8:]])
    using.ok("packs", "remove", "third")
    assert (using.path / "largeforge.yaml").read_text() == COMMENTED
    using.ok("packs", "remove", "first")
    assert [entry.alias for entry in project.read(using.path)] == ["second"]
    assert "# the end\n" in (using.path / "largeforge.yaml").read_text()


def test_a_file_that_cannot_be_edited_safely_is_left_alone(using, published):
    text = "packs: [{git: https://example.com/a, rev: v1, as: first}]\n"
    using.write("largeforge.yaml", text)
    err = using.refused("packs", "add", str(published.path), "--rev", "v1", "--as", "third")
    assert "write into it yourself: {git:" in err
    assert (using.path / "largeforge.yaml").read_text() == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("packs: {}\n", "largeforge.yaml:1: packs: must be a list"),
        ("packs: [x]\n", "largeforge.yaml:1: packs: a pack is a section"),
        ("packs:\n  - {git: /x, rev: v1}\n", "largeforge.yaml:2: packs.as: is required"),
        ("packs:\n  - {git: /x, rev: v1, as: a, ref: v2}\n", "Did you mean 'rev'?"),
        ("packs:\n  - {git: /x, rev: v1, as: Acme}\n", "packs.as = 'Acme': a name has lowercase letters"),
        ("packs:\n  - {git: /x, rev: v1, as: recipes}\n", "is a word with a meaning of its own"),
        ("packs:\n  - {git: /x, rev: a, as: a}\n  - {git: /y, rev: a, as: a}\n", "two packs have this name"),
        ("pack: []\n", "largeforge.yaml:1: pack: unknown key; there is: packs. Did you mean 'packs'?"),
        ("packs: !!python/name:os.system []\n", "tags are not allowed"),
        ("- packs\n", "the file must hold"),
    ],
)
def test_mistakes_in_the_file_are_named_with_their_line(work, text, message):
    work.write("largeforge.yaml", text)
    for words in (["packs"], ["+recipe=quickstart", "mode=plan"], []):
        assert message in work.refused(*words)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "nonsense", '{"version": 2, "packs": {}}', '{"version": 1, "packs": {"acme": {}}}',
     '{"version": 1, "packs": {"acme": {"git": "/x", "rev": "v1", "commit": "' + "0" * 40 + '", "sha256": "../../x"}}}',
     '{"version": 1, "packs": {"acme": {"git": "ext::x", "rev": "v1", "commit": "' + "0" * 40 + '", "sha256": "'
     + "0" * 64 + '"}}}', "[" * 100_000],
)  # fmt: skip
def test_a_damaged_lock_is_one_message(using, text):
    using.write("packs.lock", text)
    for words in (["packs"], ["packs", "fetch"], ["+recipe=acme/support_bot", "mode=plan"]):
        assert "packs.lock: is " in using.refused(*words)


@pytest.mark.parametrize(("name", "hint"), [("acmee", "Did you mean 'acme'?"), ("other", "there is: acme.")])
def test_an_unknown_pack_is_answered_with_those_that_there_are(using, name, hint):
    assert hint in using.refused("packs", "remove", name)
    assert hint in using.refused("packs", "update", name)


def test_check_is_what_add_asks_for(work, author):
    author.write({**PACK, "README.md": "hello", "tests/x.py": ""})
    assert "a sound pack" in work.ok("packs", "check", str(author.path))
    author.write({"recipes/bad.yaml": RECIPE + "environment: {python: x}\n", "conf/hosts/a.yaml": "name: a\n"})
    author.write({"conf/config.yaml": "a: 1\n", "pack.yaml": "nam: x\nlargeforge: newest\n"})
    err = work.refused("packs", "check", str(author.path))
    assert "recipes/bad.yaml:12: environment.python: a pack may not set this" in err
    assert "hosts: a pack cannot add to this group" in err
    assert "conf: holds only conf/<group>/<choice>.yaml" in err
    assert "nam: unknown key" in err
    assert "Did you mean 'name'?" in err
    assert "must be bounds" in err
    author.publish(tag="v1")
    refused = work.refused("packs", "add", str(author.path), "--rev", "v1", "--as", "acme")
    assert "recipes/bad.yaml:12: environment.python: a pack may not set this" in refused
    assert not (work.path / "largeforge.yaml").exists()
    assert not (work.path / "packs.lock").exists()


def test_a_folder_that_is_no_pack(work, tmp_path):
    assert "not a pack" in work.refused("packs", "check", str(tmp_path / "work"))
    assert "no such folder" in work.refused("packs", "check", str(tmp_path / "nothing"))


def test_values_that_a_recipe_leaves_to_its_user_are_no_problem(work, author):
    author.write({"recipes/ask.yaml": RECIPE.replace("/dataset: shop", "/dataset: jsonl").replace("short", "sft")})
    assert "a sound pack" in work.ok("packs", "check", str(author.path))


@pytest.mark.parametrize(
    ("bounds", "fits"),
    [(">=0", True), (">=0,<99", True), (">=99", False), ("==0.*", False), ("!=99", True), ("<0", False), ("", False)],
)
def test_version_ranges(tmp_path, bounds, fits):
    (tmp_path / "pack.yaml").write_text(f'largeforge: "{bounds}"\n')
    assert (manifest.read(tmp_path)[1] == []) is fits


def test_help_shows_the_commands(work):
    code, out, _ = work.run("packs", "--help")
    assert code == 0
    assert "packs check ." in out
    assert all(word in out for word in ("add", "fetch", "update", "remove", "check"))
