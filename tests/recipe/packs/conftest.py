"""Packs in real git repositories, and a working directory that uses them."""

from __future__ import annotations

import os
import subprocess

import pytest

from largeforge.cli import main

RECIPE = """\
# @package _global_
# A support bot.
defaults:
  - /model: tiny_general
  - /dataset: shop
  - /method: short
  - /adapter: none
  - /evaluation: loss
  - override /hardware: cpu
  - _self_
name: support_bot
"""
METHOD = "# Few steps.\ndefaults:\n  - sft\n  - _self_\nmax_steps: 7\n"
DATASET = "# Rows of a shop.\nname: shop\npath: recipe:data/shop.jsonl\n"
ROWS = "".join(f'{{"prompt": "question {i}", "response": "answer {i}"}}\n' for i in range(20))

PACK = {
    "recipes/support_bot.yaml": RECIPE,
    "recipes/data/shop.jsonl": ROWS,
    "conf/method/short.yaml": METHOD,
    "conf/dataset/shop.yaml": DATASET,
}


class Author:
    """A git repository that somebody publishes a pack from."""

    def __init__(self, path):
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--template=", "-b", "main")
        with (path / ".git" / "config").open("a") as settings:
            settings.write("[user]\nname = Author\nemail = author@example.com\n")

    def git(self, *words, stdin=None):
        ran = subprocess.run(["git", *words], cwd=self.path, input=stdin, capture_output=True, check=True)
        return ran.stdout.decode().strip()

    def write(self, files):
        for name, content in files.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())

    def publish(self, files=(), *, tag=""):
        """Write files, commit everything, perhaps tag it; return the commit."""
        self.write(dict(files))
        self.git("add", "--all", "--force")
        return self._committed(tag)

    def publish_entry(self, mode, path, content, *, tag=""):
        """Commit an entry that need not be possible on a disk, such as a name with `..` or a link."""
        oid = self.git("hash-object", "-w", "--stdin", stdin=content.encode())
        self.git("-c", "core.protectNTFS=false", "update-index", "--add", "--cacheinfo", f"{mode},{oid},{path}")
        return self._committed(tag)

    def publish_tree(self, raw, *, tag):
        """Commit a tree object byte by byte."""
        tree = self.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw)
        commit = self.git("commit-tree", tree, "-m", "made by hand")
        self.git("tag", tag, commit)
        return commit

    def _committed(self, tag):
        self.git("commit", "--quiet", "--allow-empty", "-m", "a change")
        if tag:
            self.git("tag", "--force", tag)
        return self.git("rev-parse", "HEAD")


class Work:
    """A working directory; `run` a command line in it, as a user would."""

    def __init__(self, path, capsys):
        self.path, self._capsys = path, capsys

    def run(self, *words):
        """Return exit code, output and errors."""
        self._capsys.readouterr()
        try:
            code = main(list(words))
        except SystemExit as stop:
            code = stop.code
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def packs(self, *words):
        return self.run("packs", *words)

    def ok(self, *words):
        code, out, err = self.run(*words)
        assert code == 0, err
        return out

    def refused(self, *words, code=2):
        found, out, err = self.run(*words)
        assert found == code, (found, out, err)
        assert "Traceback" not in err
        return err

    def write(self, name, text):
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def lock(self):
        return (self.path / "packs.lock").read_bytes()


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    """No configuration of the machine that the tests run on, and an empty cache."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def author(tmp_path):
    return Author(tmp_path / "author" / "recipes")


@pytest.fixture
def published(author):
    """A sound pack with the tag v1."""
    author.publish(PACK, tag="v1")
    return author


@pytest.fixture
def work(tmp_path, monkeypatch, capsys):
    path = tmp_path / "work"
    path.mkdir()
    monkeypatch.chdir(path)
    return Work(path, capsys)


@pytest.fixture
def using(work, published):
    """A working directory that uses the pack as acme."""
    work.ok("packs", "add", str(published.path), "--rev", "v1", "--as", "acme")
    return work


@pytest.fixture
def compose_hostile(work, author):
    """Compose `+recipe=acme/x` of a pack with these files, pinned although no `packs add` would take it."""
    from largeforge.recipe.packs import fetch, lockfile, project

    def compose(files, *words):
        commit = author.publish({"recipes/x.yaml": RECIPE.replace("support_bot", "x"), **PACK, **files})
        entry = project.Entry("acme", str(author.path), commit)
        lockfile.write(work.path, {"acme": fetch.resolve(entry, work.path)})
        work.write("largeforge.yaml", f"packs: [{{git: '{author.path}', rev: {commit}, as: acme}}]\n")
        return work.run("+recipe=acme/x", "mode=plan", *words)

    return compose
