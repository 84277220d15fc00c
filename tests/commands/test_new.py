"""A new recipe is sound, says little, and never costs one that is there."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
import yaml

from largeforge.cli import main
from largeforge.recipe import sources

ROW = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}\n'
PAIR = '{"prompt": "Hi", "chosen": "Hello!", "rejected": "Go away."}\n'
RATED = '{"prompt": "Hi", "completion": "Hello!", "label": true}\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text(ROW * 3)
    (tmp_path / "pairs.jsonl").write_text(PAIR * 2)
    (tmp_path / "rated.jsonl").write_text(RATED * 2)
    (tmp_path / "parts/more").mkdir(parents=True)
    (tmp_path / "parts/a.jsonl").write_text(ROW * 2)
    (tmp_path / "parts/more/b.csv").write_text('prompt,response\nHi,"Hello\nyou!"\n')
    (tmp_path / "notes.jsonl").write_text('{"text": "Parcels leave our house at four."}\n' * 2)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return the message of a command that writes nothing."""
    before = sorted(Path("recipes").glob("*"))
    assert main(["new", "recipe", *words]) == 2
    assert sorted(Path("recipes").glob("*")) == before
    return capsys.readouterr().err


SFT = ["--train", "sft", "--model", "qwen2_5_7b_instruct", "--data", "rows.jsonl"]


@pytest.mark.parametrize(
    "flags",
    [
        SFT,
        [*SFT, "--serve", "--hardware", "rtx_4090"],
        [*SFT, "--adapter", "none", "--serve"],
        ["--train", "dpo", "--model", "hub:a/b@main", "--data", "pairs.jsonl"],
        ["--train", "kto", "--model", "hub:a/b", "--data", "rated.jsonl"],
        ["--train", "reward", "--model", "hub:a/b", "--data", "pairs.jsonl"],
        ["--train", "pretrain", "--model", "hub:a/b", "--data", "notes.jsonl"],
        ["--train", "grpo", "--model", "hub:a/b", "--data", "rows.jsonl"],
        ["--train", "distill", "--model", "hub:a/b", "--teacher", "qwen2_5_7b_instruct", "--data", "rows.jsonl"],
        ["--from", "distill_qwen1_5b", "--train", "distill", "--teacher", "registry:wise@champion"],
        ["--train", "sft", "--model", "tiny_general", "--data", "rows.jsonl", "--serve"],
        ["--train", "sft", "--model", "registry:base@champion"],
        ["--serve", "--model", "qwen2_5_7b_instruct"],
        ["--serve", "--model", "path:/models/true: x # y", "--hardware", "cpu"],
        ["--from", "sft_qwen7b", "--data", "rows.jsonl", "--hardware", "cpu"],
        ["--from", "sft_qwen7b", "--model", "hub:a/b", "--train", "sft"],
    ],
    ids=" ".join,
)
def test_what_is_written_is_sound_and_in_the_style_of_the_house(
    folder: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    assert main(["new", "recipe", "mine", *flags]) == 0
    out = capsys.readouterr().out
    assert "wrote recipes/mine.yaml" in out
    assert "  python -m largeforge +recipe=mine" in out
    text = Path("recipes/mine.yaml").read_text()
    assert text.startswith("# @package _global_\n# ")
    assert "\n#   python -m largeforge +recipe=mine" in text
    assert len(text.splitlines()) < 40
    assert sources.description(Path("recipes/mine.yaml")).endswith(".")
    given = (
        [] if "rows.jsonl" in text or "pairs.jsonl" in text or "--train" not in flags else ["dataset.path=rows.jsonl"]
    )
    if "--from" in flags:
        given = []
    assert main(["+recipe=mine", "mode=plan", "memory_check=warn", *given]) == 0


def test_the_plan_does_what_was_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "recipe", "mine", *SFT, "--serve"]) == 0
    assert "rows.jsonl: 3 rows, messages" in capsys.readouterr().out
    values = yaml.safe_load(Path("recipes/mine.yaml").read_text())
    assert {"/method": "sft"} in values["defaults"]
    assert values["topology"]["experts"]["general"]["model"] == "job:main/merge"
    assert values["dataset"] == {"path": "rows.jsonl"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("parts", "parts: 3 rows, messages"),
        ("parts/**/*.csv", "parts/**/*.csv: 1 rows, prompt_response"),
        ("memory://bucket/rows.jsonl", "not here yet; its rows are looked at when it has been downloaded"),
    ],
)
def test_data_is_a_folder_a_pattern_or_an_address(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, data: str, said: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    fsspec.filesystem("memory").pipe_file("/bucket/rows.jsonl", ROW.encode())
    assert main(["new", "recipe", "mine", *SFT[:-1], data]) == 0
    assert said in capsys.readouterr().out
    assert yaml.safe_load(Path("recipes/mine.yaml").read_text())["dataset"] == {"path": data}


def test_a_choice_as_teacher_is_written_as_its_reference(folder: Path) -> None:
    words = ["--train", "distill", "--model", "hub:a/b", "--teacher", "qwen2_5_7b_instruct"]
    assert main(["new", "recipe", "mine", *words]) == 0
    method = yaml.safe_load(Path("recipes/mine.yaml").read_text())["method"]
    assert method["teacher"].startswith("hub:Qwen/Qwen2.5-7B-Instruct")


def test_a_folder_is_a_model(folder: Path) -> None:
    (folder / "my model").mkdir()
    assert main(["new", "recipe", "mine", "--serve", "--model", "my model"]) == 0
    model = yaml.safe_load(Path("recipes/mine.yaml").read_text())["topology"]["experts"]["general"]["model"]
    assert model == f"path:{folder}/my model"


def test_a_recipe_that_is_there_is_kept_unless_forced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("recipes").mkdir()
    Path("recipes/mine.yaml").write_text("name: mine\n")
    assert "is there already; --force replaces it" in refused(capsys, "mine", *SFT)
    assert "is required to train" in refused(capsys, "mine", "--force", "--from", "quickstart", "--data", "rows.jsonl")
    assert Path("recipes/mine.yaml").read_text() == "name: mine\n"
    assert main(["new", "recipe", "mine", "--force", *SFT]) == 0
    assert "/method: sft" in Path("recipes/mine.yaml").read_text()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["Big Name", *SFT], "a name has lowercase letters"),
        (["../mine", *SFT], "a name has lowercase letters"),
        (["mine", "--train", "stf", "--model", "tiny_general"], "no such method: 'stf'; there is: "),
        (["mine", "--serve", "--model", "qwen2_5_7b_instrct"], "Did you mean 'qwen2_5_7b_instruct'?"),
        (["mine", "--serve", "--model", "hub:a/b", "--hardware", "rtx_4091"], "Did you mean 'rtx_4090'?"),
        (["mine", "--from", "quickstrat"], "Did you mean 'quickstart'?"),
        (["mine", "--model", "tiny_general"], "nothing to do"),
        (["mine", "--train", "sft"], "--model is required"),
        (["mine", "--train", "sft", "--model", "tiny_general", "--data", "nope.jsonl"], "nope.jsonl"),
        (["mine", "--train", "dpo", "--model", "hub:a/b", "--data", "rows.jsonl"], "dpo trains on preference data"),
        (["mine", "--train", "reward", "--model", "hub:a/b", "--serve"], "scores and does not write"),
        (["mine", "--train", "distill", "--model", "hub:a/b"], "--teacher is required: distill learns from another"),
        (["mine", "--train", "distill", "--model", "hub:a/b", "--teacher", "x"], "--teacher 'x': neither a choice"),
        (["mine", *SFT, "--teacher", "hub:a/b"], "--teacher: sft has no teacher"),
        (["mine", "--interactive"], "the answers ended before the questions"),
        (["mine"], "--model is required"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_message_and_writes_nothing(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    part: str,
) -> None:
    with Path(os.devnull).open() as empty:
        monkeypatch.setattr(sys, "stdin", empty)
        assert part in refused(capsys, *words)


def test_on_a_terminal_it_asks(folder: Path) -> None:
    """Enter takes a default; a wrong answer is asked again."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "largeforge", "new", "recipe", "asked"],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    os.close(terminal)
    os.write(controller, b"train\nfly\nsft\n\nrows.jsonl\ncpu\n\n")
    out, _ = process.communicate(timeout=60)
    os.close(controller)
    assert process.returncode == 0, out
    assert "rows.jsonl: 3 rows, messages" in out
    values = yaml.safe_load((folder / "recipes" / "asked.yaml").read_text())
    assert {"/model": "qwen2_5_7b_instruct"} in values["defaults"]
    assert {"override /hardware": "cpu"} in values["defaults"]
