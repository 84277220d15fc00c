"""`largeforge doctor` as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from largeforge.cli import main


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1 + 1 =", "response": "2"}\n' * 40)
    return tmp_path


def test_without_a_recipe_it_makes_the_general_checks(capsys):
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "the machine in general" in shown
    assert "disk" in shown
    assert "GiB free" in shown


def test_an_error_is_shown_with_its_cure_and_the_exit_code_is_2(capsys):
    assert main(["doctor", "+recipe=sft_qwen7b", "dataset.path=none.jsonl"]) == 2
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    place = next(index for index, line in enumerate(lines) if line.startswith("✗ dataset"))
    assert lines[place + 1].strip() == "→ dataset.path=FILE"
    assert "error" in lines[-1]


def test_findings_come_as_json(capsys):
    code = main(
        ["doctor", "+recipe=sft_qwen7b", "dataset.path=rows.jsonl", "--only", "dataset", "--only", "hosts", "--json"]
    )
    found = json.loads(capsys.readouterr().out)
    assert code == 0
    assert [(finding["check"], finding["level"]) for finding in found] == [("dataset", "ok"), ("hosts", "ok")]
    assert set(found[0]) == {"check", "level", "text", "cure"}


def test_an_unknown_check_and_a_wrong_recipe_are_one_message(capsys):
    assert main(["doctor", "--only", "dsk"]) == 2
    assert "Did you mean 'disk'?" in capsys.readouterr().err
    assert main(["doctor", "+recipe=sft_qwen7"]) == 2
    assert "sft_qwen7b" in capsys.readouterr().err


def test_it_imports_no_torch(folder):
    program = (
        "import sys\nfrom largeforge.cli import main\n"
        "main(['doctor', '+recipe=quickstart'])\n"
        "sys.exit(1 if {'torch', 'transformers', 'mlflow', 'vllm', 'numpy'} & set(sys.modules) else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_a_file_name_cannot_steer_the_terminal(capsys):
    main(["doctor", "+recipe=sft_qwen7b", 'dataset.path="a\x1b[31mb.jsonl"', "--only", "dataset"])
    assert "\x1b" not in capsys.readouterr().out
