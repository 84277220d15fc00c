"""`largeforge check` finds all problems of all files, and stops a commit that would bring one in."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from largeforge.cli import main
from largeforge.recipe.folders import shipped_root

GOOD = """\
# @package _global_
# Serves one model.
defaults:
  - /topology: single
  - /router: keyword
  - _self_
name: good
topology: {experts: {general: {model: "path:/models/a"}}}
"""
TRAINS = """\
# @package _global_
# Trains on data that the command line names.
defaults: [{/model: qwen2_5_7b_instruct}, {/dataset: jsonl}, {/method: sft}, {/adapter: lora}, _self_]
name: trains
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("recipes", "conf/model", "hosts"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "recipes" / "good.yaml").write_text(GOOD)
    return tmp_path


def check(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["check", *words])
    return code, *capsys.readouterr()


def test_sound_files_pass(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "conf" / "model" / "mine.yaml").write_text("# Mine.\nname: mine\nref: path:/models/a\n")
    assert check(capsys) == (0, "1 recipe and 1 choice: no problems\n", "")


def test_all_problems_of_all_files_come_at_once_with_their_places(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "recipes" / "typo.yaml").write_text(GOOD + "seeed: 1\nseed: -1\n")
    (folder / "recipes" / "broken.yaml").write_text("name: [\n")
    (folder / "recipes" / "relation.yaml").write_text(GOOD.replace("  - /router: keyword\n", ""))
    (folder / "recipes" / "choice.yaml").write_text(GOOD.replace("keyword", "keywrod"))
    (folder / "recipes" / "unread.yml").write_text(GOOD)
    (folder / "conf" / "model" / "mine.yaml").write_text("name: mine\nreff: path:/models/a\n")
    (folder / "hosts" / "lab.yaml").write_text("name: lab\nhosts: {one: {}, Two: {address: local}}\n")
    code, out, error = check(capsys)
    assert (code, out) == (2, "")
    assert error.startswith("error: 8 problems in 7 of 8 files:\n")
    for part in (
        "recipes/typo.yaml:9: seeed = 1: unknown key",
        "recipes/typo.yaml:10: seed = -1: ",
        "recipes/broken.yaml:2: YAML: not valid YAML",
        "recipes/relation.yaml: router: is required to serve",
        "recipes/choice.yaml:5: router = 'keywrod': no such router; there is: chain, classifier, embedding, keyword, "
        "rules, weighted. Did you mean 'keyword'?",
        "recipes/unread.yml: file: is never read: its name must end in .yaml.",
        "conf/model/mine.yaml:2: model.reff = 'path:/models/a': unknown key",
        "hosts/lab.yaml:2: hosts.hosts.Two: a name has lowercase letters",
    ):
        assert f"  - {part}" in error


def test_a_broken_choice_is_told_once_however_many_recipes_use_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "conf" / "model" / "qwen2_5_7b_instruct.yaml").write_text("name: q\nref: nothing\n")
    for name in ("one", "two"):
        (folder / "recipes" / f"{name}.yaml").write_text(TRAINS.replace("trains", name) + "dataset: {path: a.jsonl}\n")
    code, _, error = check(capsys)
    assert code == 2
    assert error.startswith("error: 1 problem in 3 of 4 files:\n  - conf/model/qwen2_5_7b_instruct.yaml:2: model.ref")


def test_what_the_command_line_must_give_is_told_and_is_no_problem(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "recipes" / "trains.yaml").write_text(TRAINS)
    (folder / "recipes" / "open.yaml").write_text(GOOD.replace('"path:/models/a"', "'???'") + "serve: true\n")
    code, out, _ = check(capsys)
    assert code == 0
    assert "recipes/trains.yaml: needs dataset.path=\n" in out
    assert "recipes/open.yaml: needs topology.experts.general.model=\n" in out
    assert "needs" not in check(capsys, "--set", "dataset.path=a.jsonl", "recipes/trains.yaml")[1]


def test_the_rest_of_a_recipe_that_needs_something_is_checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "recipes" / "trains.yaml").write_text(TRAINS + "merge: true\nadapter: {lora_r: 0}\n")
    assert "adapter.lora_r = 0" in check(capsys)[2]
    (folder / "recipes" / "trains.yaml").write_text(TRAINS + "gates: {exact_match: '> 0'}\n")
    assert "recipes/trains.yaml:5: gates.exact_match" in check(capsys)[2]


def test_what_no_command_line_can_give_well_is_a_problem(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "recipes" / "good.yaml").write_text(GOOD.replace("name: good\n", ""))
    assert "recipes/good.yaml: name: is required" in check(capsys)[2]
    (folder / "recipes" / "good.yaml").write_text(GOOD + "jobs: {a: {merge: true}}\n")
    assert "recipes/good.yaml:9: jobs.a.model: is required" in check(capsys)[2]


def test_a_value_that_nothing_needs_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = check(capsys, "--set", "datset.path=a.jsonl")
    assert code == 2
    assert "none of the recipes leaves datset.path to the command line" in error
    assert check(capsys, "--set", "datset")[0] == 2


def test_files_elsewhere_are_checked_with_the_folders_beside_them(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = folder / "other"
    (other / "recipes").mkdir(parents=True)
    (other / "conf" / "router").mkdir(parents=True)
    (other / "conf" / "router" / "own.yaml").write_text("name: keyword\n")
    (other / "recipes" / "uses.yaml").write_text(GOOD.replace("keyword", "own"))
    assert check(capsys, "other")[0] == 0
    assert check(capsys, "other/recipes/uses.yaml")[0] == 0
    (other / "recipes" / "uses.yaml").write_text(GOOD.replace("keyword", "onw"))
    assert "  - other/recipes/uses.yaml:5: router = 'onw'" in check(capsys, "other")[2]
    assert Path.cwd() == folder


@pytest.mark.parametrize("path", ["nope", "nope.yaml", "notes.yaml", "empty"])
def test_a_path_that_holds_no_recipe_is_a_mistake(folder: Path, capsys: pytest.CaptureFixture[str], path: str) -> None:
    (folder / "notes.yaml").write_text("a: 1\n")
    (folder / "empty").mkdir()
    code, _, error = check(capsys, path)
    assert code == 2
    assert path in error


def test_json_says_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "recipes" / "bad.yaml").write_text(GOOD + "seeed: 1\n")
    (folder / "recipes" / "trains.yaml").write_text(TRAINS)
    code, out, _ = check(capsys, "--json")
    found = json.loads(out)
    files = {file["path"]: file for file in found["files"]}
    assert (code, found["ok"]) == (2, False)
    assert files["recipes/trains.yaml"]["needs"] == ["dataset.path"]
    (problem,) = files["recipes/bad.yaml"]["problems"]
    assert (problem["where"], problem["key"], problem["nearest"]) == ("recipes/bad.yaml:9", "seeed", "seed")


def test_all_shipped_recipes_and_choices_are_sound(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = check(capsys, str(shipped_root()))
    assert (code, error) == (0, "")
    assert "no problems" in out


def test_a_strangers_files_run_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = f"{{_target_: subprocess.getoutput, _args_: ['touch {folder}/ran']}}"
    (folder / "conf" / "model" / "evil.yaml").write_text(f"name: x\nref: {evil}\n")
    (folder / "conf" / "hydra").mkdir()
    (folder / "conf" / "hydra" / "job.yaml").write_text(f"x: {evil}\n")
    (folder / "recipes" / "evil.yaml").write_text(f"name: evil\nhydra: {evil}\n")
    code, _, error = check(capsys)
    assert code == 2
    assert all(f"{name}.yaml" in error for name in ("conf/model/evil", "conf/hydra/job", "recipes/evil"))
    assert not (folder / "ran").exists()


def test_a_git_hook_refuses_a_commit_that_breaks_a_recipe(folder: Path) -> None:
    """With the entry of `.pre-commit-hooks.yaml`, in a repository of somebody else."""
    (hook,) = yaml.safe_load((shipped_root() / ".pre-commit-hooks.yaml").read_text())
    command = shlex.split(hook["entry"])
    assert (command[0], hook["pass_filenames"]) == ("largeforge", False)
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        return subprocess.run(["git", *identity, *words], capture_output=True, text=True, env=environment)

    git("init", "-q")
    script = folder / ".git" / "hooks" / "pre-commit"
    script.parent.mkdir(exist_ok=True)
    script.write_text(f"#!/bin/sh\nexec {shlex.join([sys.executable, '-m', *command])}\n")
    script.chmod(0o755)
    git("add", "recipes")
    assert git("commit", "-m", "good").returncode == 0
    (folder / "recipes" / "good.yaml").write_text(GOOD + "seeed: 1\n")
    refused = git("commit", "-am", "bad")
    assert refused.returncode != 0
    assert "recipes/good.yaml:9: seeed = 1: unknown key" in refused.stderr
    assert git("log", "--format=%s").stdout == "good\n"
