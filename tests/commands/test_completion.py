"""What a user of bash gets for the tab key, in a real bash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from largeforge.cli import main

pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")

_TAB = """
eval "$("$PYTHON" -m largeforge completion bash)"
COMP_LINE=$1 COMP_POINT=${#1}
complete -p largeforge python > /dev/null || exit 1
compopt() { :; }
_largeforge
printf '%s\\n' "${COMPREPLY[@]}"
"""


def tab(line: str, cwd: Path) -> list[str]:
    """Return what bash would put in place of the last word, or of what follows its last `=`."""
    environment = {
        **os.environ,
        "PYTHON": sys.executable,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    ended = subprocess.run(
        ["bash", "-c", _TAB, "bash", line], cwd=cwd, capture_output=True, text=True, timeout=60, env=environment
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.split()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("largeforge che", ["check"]),
        ("python -m largeforge sche", ["schema"]),
        ("python3 -m largeforge +rec", ["+recipe="]),
        ("python -m largeforge +recipe=serve_qui", ["serve_quickstart"]),
        ("python -m largeforge +recipe=sft_qwen7b hardware=rtx_409", ["rtx_4090"]),
        ("python -m largeforge +recipe=sft_qwen7b mode=", ["plan", "run"]),
        ("python -m largeforge +recipe=sft_qwen7b method.learning", ["method.learning_rate="]),
        ("python -m largeforge +recipe=quickstart jobs.general.method.warm", ["jobs.general.method.warmup_steps="]),
        ("python -m largeforge +recipe=sft_qwen7b method.packing=t", ["true"]),
        ("python -m largeforge +recipe=sft_qwen7b method.precision=b", ["bf16"]),
        ("python -m largeforge +recipe=sft_qwen7b +topology@x.topology=sin", ["single"]),
        ("largeforge schema --vs", ["--vscode"]),
        ("largeforge new rec", ["recipe"]),
        ("python -m json.tool largef", []),
        ("largeforge check recipes/mi", []),
    ],
)
def test_the_tab_key(tmp_path: Path, line: str, found: list[str]) -> None:
    assert tab(line, tmp_path) == found


def test_own_recipes_are_proposed(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "zebra.yaml").write_text("name: zebra\n")
    assert tab("largeforge +recipe=zeb", tmp_path) == ["zebra"]


def test_nothing_typed_proposes_commands_and_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash", "--words", ""]) == 0
    found = capsys.readouterr().out.split()
    assert {"check", "new", "schema", "+recipe=", "hardware=", "method.", "seed="} <= set(found)
