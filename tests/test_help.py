"""`--help` says what Hydra's would, and with Hydra out of the way."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from largeforge import help as help_text
from largeforge.cli import main


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A working directory with a recipe and choices of its own."""
    for name in ("recipes/mine.yaml", "conf/method/mine.yaml", "conf/method/more/inner.yaml", "recipes/data/rows.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("name: mine\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_is_the_text_that_hydra_prints(own):
    ended = subprocess.run(
        [sys.executable, "-m", "largeforge", "--help", "hydra.verbose=false"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == help_text.text() + "\n"
    assert re.search(r"^method: .*dpo, .*mine, .*sft$", ended.stdout, re.MULTILINE)
    assert "method/more: inner\n" in ended.stdout


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_printed_without_composing_anything(own, flag):
    program = (
        f"import sys\nfrom largeforge.cli import main\ncode = main([{flag!r}])\n"
        "sys.exit(code or any(name in sys.modules for name in ('hydra', 'omegaconf', 'pydantic', 'rich')))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "mine" in ended.stdout


def test_a_recipe_in_a_folder_is_named_as_it_is_chosen(own, capsys):
    (own / "recipes" / "team").mkdir()
    (own / "recipes" / "team" / "support.yaml").write_text("name: support\n")
    assert main(["--help"]) == 0
    assert "team/support" in capsys.readouterr().out


@pytest.mark.parametrize(
    "path", sorted((Path(help_text.__file__).parent / "commands").glob("[a-z]*.py")), ids=lambda path: path.stem
)
def test_each_example_of_a_command_has_a_line_of_its_own(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    for line in text.splitlines():
        if line.startswith(" ") and "python -m largeforge" in line:
            assert line.count("python -m largeforge") == 1, line
            assert not re.search(r"\w python -m largeforge", line), line
