"""The git commit of a recipe: only of its own folders, only where there is one, and nothing of the repository runs."""

from __future__ import annotations

import subprocess

import pytest

from largeforge.recipe.folders import shipped_root
from largeforge.recipe.origin import git


@pytest.fixture
def repository(tmp_path):
    """A repository with one committed recipe; returns what runs git in it."""

    def run(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text("name: mine\n")
    (tmp_path / "notes.txt").write_text("a\n")
    run("init", "-q")
    run("add", ".")
    run("commit", "-qm", "first")
    return run


def test_a_committed_recipe_has_its_commit_and_is_clean(tmp_path, repository):
    assert git(tmp_path / "recipes") == {"commit": repository("rev-parse", "HEAD"), "dirty": False}


def test_only_changes_beside_the_recipe_make_it_dirty(tmp_path, repository):
    (tmp_path / "notes.txt").write_text("b\n")
    (tmp_path / "untracked.txt").write_text("c\n")
    assert git(tmp_path / "recipes")["dirty"] is False
    (tmp_path / "recipes" / "mine.yaml").write_text("name: mine\nseed: 1\n")
    assert git(tmp_path / "recipes")["dirty"] is True


def test_a_recipe_that_was_never_added_is_dirty(tmp_path, repository):
    (tmp_path / "recipes" / "new.yaml").write_text("name: new\n")
    assert git(tmp_path / "recipes")["dirty"] is True


def test_without_a_repository_a_commit_or_git_there_is_nothing_to_say(tmp_path, monkeypatch):
    (tmp_path / "recipes").mkdir()
    assert git(tmp_path / "recipes") == {}
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert git(tmp_path / "recipes") == {}
    monkeypatch.setenv("PATH", "")
    assert git(shipped_root() / "recipes") == {}


def test_a_repository_can_run_nothing_and_variables_cannot_name_another(tmp_path, repository, monkeypatch):
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    repository("config", "core.fsmonitor", str(hook))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert git(tmp_path / "recipes")["commit"]
    assert not (tmp_path / "ran").exists()
