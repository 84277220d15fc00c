"""What the README tells a user to type is accepted; the end-to-end tier runs it for real."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.in_process import largeforge

ROOT = Path(__file__).parents[1]


def shown() -> list[str]:
    """Return the `python -m largeforge` commands of the README and of the headers of all recipes."""
    pages = [ROOT / "README.md", *sorted((ROOT / "recipes").glob("*.yaml"))]
    text = "\n".join(path.read_text().replace("\\\n", " ") for path in pages)
    return sorted({" ".join(line.split()) for line in re.findall(r"^(?:#   )?(python -m largeforge.*)$", text, re.M)})


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b.c"}
ENVIRONMENT |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b.c"}


def run(words: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**ENVIRONMENT, "XDG_CACHE_HOME": str(cwd / "cache")}
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with what the README's reader has by then: data, an own recipe, a pack."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "my.jsonl").write_text('{"prompt": "a", "response": "b"}\n' * 3)
    (folder / "preferences.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n' * 3)
    pack = folder / "pack"
    (pack / "recipes").mkdir(parents=True)
    (pack / "recipes" / "support_bot.yaml").write_text(
        "# @package _global_\n# A bot.\ndefaults: [{/topology: single}, {/router: keyword}, _self_]\n"
        "name: support_bot\ntopology: {experts: {general: {model: 'hub:Qwen/Qwen2.5-0.5B-Instruct'}}}\n"
    )
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"], ["tag", "v1"]):
        assert run(["git", "-C", str(pack), *words], folder).returncode == 0
    written = [shlex.split(line)[1:] for line in shown() if line.startswith("python -m largeforge new ")]
    add = ["-m", "largeforge", "packs", "add", str(pack), "--rev", "v1", "--as", "acme"]
    for words in (*written, add):
        done = run([sys.executable, *words], folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("command", [line for line in shown() if "+recipe=" in line])
def test_a_recipe_command_that_is_shown_can_be_planned(command: str, folder: Path) -> None:
    words = shlex.split(command)[3:]
    environment = {**ENVIRONMENT, "XDG_CACHE_HOME": str(folder / "cache")}
    result = largeforge(*words, *([] if "mode=plan" in words else ["mode=plan"]), cwd=folder, **environment)
    assert result.returncode == 0, result.stderr
    assert "to do" in result.stdout or "trials" in result.stdout


@pytest.mark.parametrize("command", [line for line in shown() if "+recipe=" not in line and "reproduce=" not in line])
def test_another_command_that_is_shown_is_understood(command: str) -> None:
    words = shlex.split(command)[3:]
    if not words:
        return
    module = importlib.import_module(f"largeforge.commands.{words[0]}")
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    assert parser.parse_args(words[1:])


def test_files_that_the_readme_names_exist() -> None:
    text = (ROOT / "README.md").read_text()
    names = re.findall(r"`((?:docs|scripts|recipes|conf|largeforge)/[\w./]*\w)`", text)
    assert len(names) > 5
    assert [name for name in names if not (ROOT / name).exists() and name != "recipes/mine.yaml"] == []
